"""The sequence of tasks: what it refuses, how long its tasks are, and what ranks see of a test set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import Task, TaskSequence
from datamodules.images.sets import ImageSet
from datamodules.mini import GeneralReference
from datamodules.mtil import DTD, Aircraft
from datamodules.shard import TestShard
from gift_lightning.clip.model import CLIP
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError


def pictures(count: int) -> ImageSet:
    """Random pictures of odd sizes and all usual modes."""
    random = np.random.default_rng(count)
    shapes = [(35 + 2 * index, 51 - 2 * index, 4) for index in range(count)]
    modes = ["RGB", "L", "RGBA", "P"]
    drawn = [Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8), "RGBA") for shape in shapes]
    return [(image.convert(modes[index % 4]), index % 3) for index, image in enumerate(drawn)]


class Pictures(Task):
    def __init__(self, name: str = "Pictures", train: int = 3, test: int = 2, **attributes: Any) -> None:
        super().__init__()
        self.name, self.train_set, self.test_set = name, pictures(train), pictures(test)
        self.class_names: list[str] = attributes.get("class_names", ["a", "b", "c"])
        self.templates: list[str] = attributes.get("templates", ["a {}", "the {}"])


@pytest.fixture(scope="module")
def clip() -> CLIP:
    return CLIPSource("package:datamodules.mini.clip").load()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"tasks": []}, "tasks is empty"),
        ({"tasks": [Pictures("A"), Pictures("B"), Pictures("A")]}, "more than one task named 'A'"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": -1}, "steps is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_refused_arguments(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        TaskSequence(**{"tasks": [Pictures()], **arguments})


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (Pictures(train=0), "'Pictures' has no training images"),
        (Pictures(test=0), "'Pictures' has no test images"),
        (Pictures(class_names=["a"]), "'Pictures' has 1 class names"),
        (Pictures(templates=[]), "'Pictures' needs templates"),
        (Pictures(templates=["a {}", "a photo"]), "not \\['a photo'\\]"),
        (Pictures(templates=["{} or {}"]), "not \\['{} or {}'\\]"),
    ],
)
def test_refused_tasks(task: Task, told: str) -> None:
    with pytest.raises(InputError, match=told):
        TaskSequence([Pictures("First"), task]).setup()


def test_steps_are_cumulative() -> None:
    tasks: list[Task] = [Pictures("A", train=9), Pictures("B", train=4), Pictures("C", train=1)]
    sequence = TaskSequence(tasks, batch_size=4, steps="epoch")
    assert [sequence.steps(task) for task in range(3)] == [3, 1, 1]
    assert [sequence.first_step(task) for task in range(4)] == [0, 3, 4, 5]
    sequence = TaskSequence(tasks, batch_size=4, steps=7)
    assert [sequence.first_step(task) for task in range(4)] == [0, 7, 14, 21]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_shards_of_all_ranks_are_the_whole_set(world_size: int, clip: CLIP) -> None:
    whole = pictures(7)
    for rank in range(world_size):
        shard = TestShard(whole, clip.test_geometry, clip.normalize, rank, world_size)
        expected = [whole[index] for index in range(rank, 7, world_size)]
        assert len(shard) == len(expected)
        assert shard.labels.tolist() == [label for _, label in expected]
        assert shard.labels.dtype == torch.long
        if expected:
            assert torch.equal(shard[:], torch.stack([clip.test_transform(image) for image, _ in expected]))


def test_limit_keeps_the_first_images(clip: CLIP) -> None:
    whole = pictures(7)
    ranks = [TestShard(whole, clip.test_geometry, clip.normalize, rank, 2, limit=5) for rank in range(2)]
    assert [rank.labels.tolist() for rank in ranks] == [[0, 2, 1], [1, 0]]
    assert len(TestShard(whole, clip.test_geometry, clip.normalize, limit=9)) == 7


def test_a_shard_is_indexed_by_slices_and_tensors(clip: CLIP) -> None:
    whole = pictures(5)
    shard = TestShard(whole, clip.test_geometry, clip.normalize)
    transformed = torch.stack([clip.test_transform(image) for image, _ in whole])
    assert torch.equal(shard[1:3], transformed[1:3])
    assert torch.equal(shard[torch.tensor([4, 0])], transformed[[4, 0]])


def test_workers_decode_the_same_images(clip: CLIP) -> None:
    alone, helped = (TestShard(pictures(5), clip.test_geometry, clip.normalize, num_workers=n) for n in (0, 2))
    assert torch.equal(alone[:], helped[:])
    assert torch.equal(alone.labels, helped.labels)


def test_a_task_reads_below_the_root_of_its_latest_sequence(tmp_path: Path) -> None:
    shared, own = Aircraft(), DTD(str(tmp_path / "own"))
    first = TaskSequence([shared, own], root=str(tmp_path / "first"))
    assert shared.where.parent == tmp_path / "first"
    shared.train_set = pictures(2)  # type: ignore[assignment]
    assert TaskSequence([shared], root=str(tmp_path / "first")).tasks == [shared] and hasattr(shared, "train_set")
    TaskSequence([shared, own], root=str(tmp_path / "second"))
    assert shared.where.parent == tmp_path / "second" and own.root == tmp_path / "own"
    assert not hasattr(shared, "train_set")  # its images may be others there
    with pytest.raises(InputError, match="The task 'Aircraft' of this TaskSequence was given to another one: make one"):
        first.setup()


def test_a_replay_begins_anew_in_its_latest_sequence() -> None:
    replay = GeneralReference(16)
    texts = []
    for seed in (0, 1):
        sequence = TaskSequence([Pictures()], seed=seed, replay=replay)
        sequence.setup()
        replay.prepare_task(0)
        texts.append(replay.texts)
    assert texts[0] != texts[1]
