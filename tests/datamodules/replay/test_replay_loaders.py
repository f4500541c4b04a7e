"""Replay sets by themselves: their pairs as batches, without a trainer or with a plain one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn

from datamodules import CurrentTask, ExemplarMemory, Reference, SyntheticReplay, TaskSequence
from datamodules.base import Replay
from datamodules.mini import Digits, Flags, GeneralReference, OracleGenerator
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError

PROMPTS = ["a photo of a tree", "a photo of a cat", "a photo of the letter b"]


def synthetic(folder: Path, batch_size: int = 4) -> tuple[TaskSequence, SyntheticReplay]:
    replay = SyntheticReplay(str(folder), OracleGenerator(), 10, batch_size, PROMPTS)
    return TaskSequence([Flags(16, 9), Digits(24, 10)], replay=replay), replay


def test_synthetic_pairs_in_a_notebook(tmp_path: Path) -> None:
    sequence, replay = synthetic(tmp_path)
    sequence.setup()
    with pytest.raises(InputError, match="SyntheticReplay has no images yet: call prepare_task"):
        replay.train_dataloader()
    replay.prepare_task(1)
    batches = list(replay.train_dataloader())
    assert [(tuple(images.shape), len(texts)) for images, texts in batches] == [
        ((4, 3, 224, 224), 4),
        ((4, 3, 224, 224), 4),
        ((2, 3, 224, 224), 2),
    ]
    texts = [text for _, texts in batches for text in texts]
    assert isinstance(batches[0][1], list) and set(texts) == set(replay.texts)
    assert set(texts) <= {*PROMPTS, *Flags(1, 1).training_prompts()}
    assert sorted(texts) == sorted(replay.texts[index] for _, index in (replay.pairs[place] for place in range(10)))


def test_images_are_those_of_their_texts_as_in_testing(tmp_path: Path) -> None:
    sequence, replay = synthetic(tmp_path, batch_size=10)
    clip = CLIPSource("package:datamodules.mini.clip").load()
    sequence.preprocessing = clip
    replay.prepare_task(0)
    ((images, texts),) = replay.train_dataloader()
    expected = [
        (clip.test_transform(image), replay.texts[index]) for image, index in map(replay.pairs.__getitem__, range(10))
    ]
    assert images.shape == (10, 3, 32, 32) and texts != [text for _, text in expected]  # in another order
    for image, text in zip(images, texts, strict=True):
        assert any(torch.equal(image, other) and text == words for other, words in expected)


def test_order_changes_with_the_epoch_and_not_with_workers(tmp_path: Path) -> None:
    sequence, replay = synthetic(tmp_path)
    sequence.setup()
    replay.prepare_task(0)

    def texts(epoch: int, workers: int = 0) -> list[str]:
        sequence.num_workers = workers
        loader = replay.train_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        return [text for _, texts in loader for text in texts]

    first, second = texts(0), texts(1)
    assert first != second and sorted(first) == sorted(second)
    assert texts(0, workers=2) == first and texts(1) == second


class Matches(LightningModule):
    """Any user's module for pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.texts: list[str] = []

    def training_step(self, batch: tuple[Tensor, list[str]], batch_idx: int) -> Tensor:
        images, texts = batch
        assert len(images) == len(texts)
        self.texts += texts
        return (self.scale * images.mean() - len(texts[0])).square()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


@pytest.mark.parametrize("replay", ["synthetic", CurrentTask(6), GeneralReference(9, 6)])
def test_pairs_with_a_plain_trainer(replay: Replay | str, tmp_path: Path) -> None:
    if isinstance(replay, str):
        sequence, replay = synthetic(tmp_path)
    else:
        sequence = TaskSequence([Flags(16, 9), Digits(24, 10)], replay=replay)
    sequence.setup()
    replay.prepare_task(1)
    module, quiet = Matches(), dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer: Any = Trainer(accelerator="cpu", max_epochs=2, enable_model_summary=False, **quiet)  # type: ignore[arg-type]
    trainer.fit(module, datamodule=replay)
    assert len(module.texts) == 2 * len(replay.pairs) and set(module.texts) <= set(replay.texts)


def test_what_are_no_pairs_gives_none(tmp_path: Path) -> None:
    for replay in (ExemplarMemory(), Reference(str(tmp_path))):
        TaskSequence([Flags(16, 9), Digits(24, 10)], replay=replay)
        with pytest.raises(InputError, match=f"images and texts of {type(replay).__name__} are no pairs"):
            replay.train_dataloader()
