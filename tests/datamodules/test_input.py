"""The way of images from disk to the model: uint8 up to the device, the values of the whole transforms after it."""

import multiprocessing
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, Lambda, Normalize, RandomErasing, Resize, ToTensor

from callbacks import TaskBoundary
from callbacks.task_callback import TaskCallback
from datamodules import CurrentTask, TaskSequence, shard
from datamodules.mini import Flags, Shapes
from datamodules.shard import ReplayBatch
from datamodules.stream import Split, StepBatches
from gift_lightning.clip.pretrained import load_pretrained
from gift_lightning.clip.source import CLIPSource
from gift_lightning.clip.transforms import split_transforms
from gift_lightning.methods import GIFT, ContinualCLIP, LwF
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS
from gift_lightning.seeding import seed_generators, stream_seed
from tests.waiting import NoWait

MINI = CLIPSource("package:datamodules.mini.clip")


class Batches(TaskCallback):
    """The batches of all steps, and the number of worker processes at each."""

    def __init__(self) -> None:
        self.of: list[dict[str, Any]] = []
        self.workers: list[int] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: dict[str, Any], batch_idx: int) -> None:
        self.of.append(batch)
        self.workers.append(len(multiprocessing.active_children()))


def fit(method: ContinualCLIP, sequence: TaskSequence, precision: Any = "32-true") -> Batches:
    seen, quiet = Batches(), dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    settings: dict[str, Any] = {**SEQUENCE_DEFAULTS, **quiet, "max_epochs": sequence.num_tasks}
    Trainer(accelerator="cpu", callbacks=[TaskBoundary(), seen], precision=precision, **settings).fit(method, sequence)
    return seen


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("64-true", torch.float64)])
def test_images_have_the_values_of_the_whole_transforms(precision: str, dtype: torch.dtype) -> None:
    _, train, test, *_ = load_pretrained(MINI.name, None, None)
    sequence = TaskSequence([Flags(16, 9)], 8, steps=3, replay=CurrentTask(batch_size=4))
    seen, pictures = fit(LwF(clip=MINI), sequence, precision).of, sequence.tasks[0].train_set
    drawn = StepBatches(range(16), 8, 3, (0, "task", 0), True, Split())
    for batch, draws in zip(seen, drawn, strict=True):
        images, replayed = batch["task"][0], batch["replay"]
        assert images.dtype == replayed.images.dtype == dtype
        for image, (index, ordinal) in zip(images, draws, strict=True):
            torch.manual_seed(stream_seed(0, "task", 0, "augment", ordinal))
            assert torch.equal(image, train(pictures[index][0]).to(dtype))
        for image, pair in zip(replayed.images, replayed.pair_index.tolist(), strict=True):
            assert torch.equal(image, test(pictures[pair][0]).to(dtype))


@pytest.mark.parametrize(("most", "helpers"), [(2**31, 1), (0, 2)])
def test_a_replay_set_in_memory_needs_no_workers(most: int, helpers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "MOST_IN_MEMORY", most)
    alone, helped = (
        fit(LwF(clip=MINI), TaskSequence([Flags(16, 9)], 8, 3, workers, replay=CurrentTask(batch_size=8)))
        for workers in (0, 1)
    )
    for ours, theirs in zip(alone.of, helped.of, strict=True):
        assert all(torch.equal(*parts) for parts in zip(ours["replay"], theirs["replay"], strict=True))
    assert max(alone.workers) == 0 and max(helped.workers) == helpers


# --- the split --------------------------------------------------------------------------------------------------------


def test_transforms_that_differ_in_their_ends_stay_whole() -> None:
    mean, std = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    test = Compose([Resize(8), ToTensor(), Normalize(mean, std)])
    image = Image.effect_noise((40, 30), 90).convert("RGB")
    ends = {
        "split": [ToTensor(), Normalize(torch.tensor(mean), torch.tensor(std))],
        "another mean": [ToTensor(), Normalize([0.5, 0.4, 0.2], std)],
        "goes on": [ToTensor(), Normalize(mean, std), RandomErasing(1.0)],
        "a function": [Lambda(lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255)],
    }
    for name, end in ends.items():
        train = Compose([Resize(8), *end])
        train_geometry, test_geometry, normalize = split_transforms(train, test)
        assert test_geometry(image).dtype == torch.uint8
        assert torch.equal(normalize(test_geometry(image)[None])[0], test(image))
        assert (train_geometry(image).dtype == torch.uint8) == (name == "split")
        torch.manual_seed(0)
        expected = train(image)
        torch.manual_seed(0)
        assert torch.equal(normalize(train_geometry(image)[None])[0], expected), name
    train_geometry, test_geometry, normalize = split_transforms(test, train)  # the one of testing is whole
    assert train_geometry is test and test_geometry is train
    assert torch.equal(normalize(train_geometry(image)[None])[0], test(image))


def test_a_clip_shows_its_training_transform_and_takes_no_other_in_silence() -> None:
    clip, image = MINI.load(), Image.effect_noise((40, 30), 90).convert("RGB")
    _, train, *_ = load_pretrained(MINI.name, None, None)
    torch.manual_seed(3)
    expected = train(image)
    torch.manual_seed(3)
    assert torch.equal(clip.train_transform(image), expected)
    with pytest.raises(AttributeError):
        clip.train_transform = clip.test_transform  # type: ignore[misc, assignment]


# --- no wait for the device -------------------------------------------------------------------------------------------


def test_the_check_finds_what_waits() -> None:
    images = torch.zeros(2, 3, 4, 4)
    for waits in (lambda: Normalize([0.5] * 3, [0.5] * 3)(images), lambda: torch.arange(3).unique()):
        with pytest.raises(AssertionError, match="waits for the device"), NoWait():
            waits()


@pytest.mark.parametrize("most", [2**31, 0])
def test_no_batch_waits_for_the_device(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard, "MOST_IN_MEMORY", most)
    checked: list[int] = []

    class Watched(TaskSequence):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            with NoWait():
                return super().on_after_batch_transfer(batch, dataloader_idx)

    class WatchedGIFT(GIFT):
        def encode_pair_texts(self, batch: ReplayBatch) -> Tensor:
            with NoWait():
                features = super().encode_pair_texts(batch)
            assert torch.equal(features, self.clip.encode_text(self._text_tokens)[batch.text_index])
            checked.append(len(batch.distinct_texts))
            return features

    fit(WatchedGIFT(clip=MINI), Watched([Flags(16, 9), Shapes(24, 10)], 8, steps=2, replay=CurrentTask(batch_size=8)))
    assert len(checked) == 4


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_generators_draw_as_after_torch_manual_seed() -> None:
    seed = stream_seed(0, "augment", 1)
    torch.manual_seed(seed)
    expected = torch.rand(5), torch.randperm(9)
    seed_generators(seed, torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected[0]) and torch.equal(torch.randperm(9), expected[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_generator_of_the_device_draws_as_after_torch_manual_seed() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    torch.manual_seed(5)
    expected = torch.rand(5, device=device)
    seed_generators(5, device)
    assert torch.equal(torch.rand(5, device=device), expected)
