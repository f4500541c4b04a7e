"""Tasks and replay sets by themselves: with a plain ``Trainer`` and a module that knows nothing of sequences."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import datamodules
from datamodules import ClassIncremental, ImageFolderTask, Task
from datamodules.images.selection import hold_out
from datamodules.loaders import EpochSampler
from datamodules.mini import Counting, Digits, Flags, LandUse, Shapes, Textures
from datamodules.mtil.facts import FACTS
from datamodules.shard import ResizedImages
from datamodules.stream import Split
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.seeding import seed_generators
from tests.datamodules.mtil import miniature

MINI = [Counting, Digits, Flags, LandUse, Shapes, Textures]


class Linear(LightningModule):
    """A linear classifier of shrunken images: any user's module."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(3 * 4 * 4, classes)
        self.seen: dict[str, list[Tensor]] = {"train": [], "val": [], "test": []}

    def step(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        images, labels = batch
        assert images.shape[1:] == (3, 224, 224) and images.dtype == torch.float32
        assert labels.shape == images.shape[:1] and labels.dtype == torch.long
        self.seen[stage].append(images.mean((1, 2, 3)).detach())
        logits = self.classifier(F.adaptive_avg_pool2d(images, 4).flatten(1))
        loss = F.cross_entropy(logits, labels)
        self.log(f"{stage}_loss", loss)
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.step(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.step(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.step(batch, "test")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def plain_trainer(**settings: Any) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(accelerator="cpu", **{"max_epochs": 2, **quiet, **settings})


def use(task: Task) -> Linear:
    """Fit, validate and test with a few batches."""
    task.prepare_data()
    task.setup()
    module, trainer = Linear(len(task.class_names)), plain_trainer(limit_train_batches=2, limit_test_batches=2)
    trainer.fit(module, task)
    assert trainer.global_step == 2 * min(2, len(task.train_dataloader()))
    trainer.validate(module, datamodule=task, verbose=False)
    (result,) = trainer.test(module, datamodule=task, verbose=False)
    assert np.isfinite(result["test_loss"])
    return module


@pytest.mark.parametrize("name", list(FACTS))
def test_a_task_of_mtil_with_a_plain_trainer(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    miniature.expect(monkeypatch, name, tmp_path)
    use(getattr(datamodules, name)(root=str(tmp_path)))


@pytest.mark.parametrize("kind", MINI)
def test_a_task_of_minimtil_with_a_plain_trainer(kind: type[Task]) -> None:
    use(kind(train_size=70, test_size=9))  # type: ignore[call-arg]


def folder_of_images(folder: Path, per_class: int = 12) -> Path:
    generator = np.random.default_rng(0)
    for name in ("dog", "cat"):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = generator.integers(0, 256, (40 + number, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def test_a_folder_of_images_with_a_plain_trainer(tmp_path: Path) -> None:
    task = ImageFolderTask(str(folder_of_images(tmp_path / "pets")))
    module = use(task)
    assert sum(map(len, module.seen["test"])) == len(task.test_set) == 4
    # in each epoch and once more by itself, always the same 2 of the 20 training images
    first, *again = module.seen["val"]
    assert len(first) == 2 and len(again) >= 2 and all(torch.equal(images, first) for images in again)


def test_sub_tasks_and_the_whole_data_set_with_a_plain_trainer() -> None:
    whole = ClassIncremental(Digits(120, 40), initial=4, increment=3)
    for task in (*whole.subtasks(), whole):
        use(task)
    assert len(whole.train_set) == 120 and len(whole.class_names) == 10


def test_the_model_of_a_clip_names_the_transforms() -> None:
    task, clip = Digits(20, 5), CLIPSource("package:datamodules.mini.clip").load()
    task.preprocessing, task.batch_size = clip, 3
    task.setup()
    images, labels = next(iter(task.test_dataloader()))
    assert torch.equal(images, torch.stack([clip.test_transform(task.test_set[index][0]) for index in range(3)]))
    assert labels.tolist() == task.test_set.labels[:3]  # type: ignore[attr-defined]
    assert next(iter(task.train_dataloader()))[0].shape == (3, 3, 32, 32)


# --- the validation set -----------------------------------------------------------------------------------------------


def held_out(sizes: list[int], share: float, key: int = 0) -> tuple[list[int], list[int]]:
    """Labels of both parts of a set with classes of these sizes."""
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    stay, held = hold_out([(None, label) for label in labels], share, (key,))  # type: ignore[arg-type]
    assert sorted(stay.indices + held.indices) == list(range(len(labels)))
    assert stay.indices == sorted(stay.indices) and held.indices == sorted(held.indices)
    return stay.labels, held.labels


@pytest.mark.parametrize(
    ("sizes", "share", "expected"),
    [
        ([10, 10, 10], 0.1, [1, 1, 1]),
        ([100, 20, 10], 0.1, [10, 2, 1]),
        ([10, 10], 0.5, [5, 5]),
        ([10, 1], 0.5, [6, 0]),  # a class of one image has none to spare
        ([4, 4], 0.99, [3, 3]),
        ([1, 1, 1], 0.5, [0, 0, 0]),
        ([10, 10], 0, [0, 0]),
        ([2, 1], 0.1, [1, 0]),
    ],
)
def test_each_class_gives_its_share_and_keeps_an_image(sizes: list[int], share: float, expected: list[int]) -> None:
    stay, held = held_out(sizes, share)
    assert [held.count(label) for label in range(len(sizes))] == expected
    assert set(stay) == set(range(len(sizes)))


def test_classes_of_two_images_share_the_loss() -> None:
    stay, held = held_out([2] * 50, 0.1)
    assert len(held) == len(set(held)) == 10 and set(stay) == set(range(50))


def test_images_held_out_follow_from_the_seed_and_are_not_trained_on() -> None:
    task = Digits(100, 5)
    task.setup()
    task.preprocessing = CLIPSource("package:datamodules.mini.clip").load()

    def indices(loader: DataLoader[Any]) -> list[int]:
        samples: Any = loader.dataset
        return (samples.images if isinstance(samples, ResizedImages) else samples.samples).indices

    train, val = indices(task.train_dataloader()), indices(task.val_dataloader())
    assert len(val) == 10 and sorted(train + val) == list(range(100)) and len(task.train_set) == 100
    assert indices(task.val_dataloader()) == val
    task.seed = 1
    assert indices(task.val_dataloader()) != val
    task.val_share = 0
    assert indices(task.val_dataloader()) == [] and len(indices(task.train_dataloader())) == 100
    use_without = plain_trainer()
    use_without.fit(Small(), task)
    assert use_without.global_step == 4


class Small(Linear):
    """For images of any size."""

    def __init__(self) -> None:
        super().__init__(10)

    def step(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        return F.cross_entropy(self.classifier(F.adaptive_avg_pool2d(batch[0], 4).flatten(1)), batch[1])


def test_few_shots_are_taken_of_the_images_that_stay() -> None:
    task = Digits(100, 5, shots=2)
    task.setup()
    assert len(task.train_dataloader().dataset) == 20  # type: ignore[arg-type]
    assert len(task.val_dataloader().dataset) == 10  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [("val_share", 1, "val_share of task 'Digits' is 1: give"), ("shots", 0, "shots of task 'Digits' is 0: give")],
)
def test_refused_settings(setting: str, value: float, sentence: str) -> None:
    task = Digits(10, 5)
    task.setup()
    setattr(task, setting, value)
    with pytest.raises(InputError, match=sentence):
        task.train_dataloader()


# --- randomness -------------------------------------------------------------------------------------------------------


def epochs(task: Task, first: int = 0, last: int = 1, workers: int = 0) -> list[tuple[Tensor, Tensor]]:
    """All images and labels of some epochs, in their order."""
    task.num_workers = workers
    loader, drawn = task.train_dataloader(), []
    for epoch in range(first, last + 1):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        images, labels = zip(*loader, strict=True)
        drawn.append((torch.cat(images), torch.cat(labels)))
    return drawn


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(ours, theirs) for ours, theirs in zip(one, other, strict=True))


def test_images_are_a_function_of_seed_epoch_and_sample(tmp_path: Path) -> None:
    def task(seed: int = 0) -> Task:
        made = ImageFolderTask(str(tmp_path), name="pets")
        made.setup()
        made.seed, made.batch_size = seed, 5
        return made

    folder_of_images(tmp_path)
    first, second = epochs(task())
    assert not same(first, second) and sorted(first[1].tolist()) == sorted(second[1].tolist())
    torch.manual_seed(7)
    assert all(map(same, epochs(task(), workers=2), [first, second]))
    assert same(epochs(task(), 1, 1)[0], second)  # as a resumed run sees it
    assert not same(epochs(task(seed=1))[0], first)


def test_trainer_says_which_epoch_it_is() -> None:
    runs = []
    for batch_size in (9, 4):
        task = Flags(30, 4)
        task.batch_size = batch_size
        module = Linear(28)
        plain_trainer().fit(module, task)
        runs.append(torch.cat(module.seen["train"]))
    assert torch.equal(*runs) and len(runs[0]) == 2 * 28
    first, second = (epoch.sort().values for epoch in runs[0].split(28))
    assert not torch.equal(first, second)  # augmented anew


def test_the_generators_of_the_process_stay_as_they_are() -> None:
    task = Flags(5, 4)
    task.setup()
    samples = task.train_dataloader().dataset
    seed_generators(3)
    before = random.random(), np.random.rand(), torch.rand(1).item()
    seed_generators(3)
    _ = samples[(0, 0)], samples[1]
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == before


def test_overfitting_takes_the_same_batch_again() -> None:
    task, module = Flags(30, 4), Linear(28)
    task.batch_size = 4
    plain_trainer(overfit_batches=1).fit(module, task)
    first, again = module.seen["train"]
    assert torch.equal(first, again)


@pytest.mark.parametrize("size", [1, 6, 7, 8])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_an_epoch(size: int, world_size: int) -> None:
    def draws(split: Split) -> list[tuple[int, int]]:
        sampler = EpochSampler(range(size), (0, "test"), split)  # type: ignore[arg-type]
        sampler.set_epoch(2)
        return list(sampler)

    alone, ranks = draws(Split()), [draws(Split(rank, world_size)) for rank in range(world_size)]
    assert {len(rank) for rank in ranks} == {-(-size // world_size)}  # each makes as many steps
    together = [rank[place] for place in range(len(ranks[0])) for rank in ranks]
    assert together[:size] == alone and set(together) == set(alone)
    assert sorted(number for _, number in alone) == list(range(2 * size, 3 * size))
