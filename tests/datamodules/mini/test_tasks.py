"""The six tasks: sizes, balance, prefixes, reproducible order."""

import inspect

import numpy as np
import pytest
from PIL import Image

from datamodules.base import Task
from datamodules.mini import Counting, Digits, Flags, LandUse, Shapes, Textures
from datamodules.mini.tasks import DrawnTask, MiniTask
from datamodules.mini.world import KINDS
from gift_lightning.errors import InputError

TASKS: list[type[MiniTask]] = [Counting, Digits, Flags, LandUse, Shapes, Textures]
KIND_OF = {
    "Counting": "count",
    "Digits": "digit",
    "Flags": "flag",
    "LandUse": "land",
    "Shapes": "sprite",
    "Textures": "texture",
}


def small(kind: type[MiniTask], train_size: int = 5, test_size: int = 7) -> MiniTask:
    task = kind(train_size=train_size, test_size=test_size)
    task.setup("fit")
    return task


@pytest.mark.parametrize("kind", TASKS)
def test_a_task_is_what_a_sequence_needs(kind: type[MiniTask]) -> None:
    task = small(kind)
    assert isinstance(task, Task) and task.name == kind.__name__
    assert len(task.train_set) == 5 and len(task.test_set) == 7
    image, label = task.test_set[0]
    assert isinstance(image, Image.Image) and image.mode == "RGB" and image.size == (32, 32)
    assert isinstance(label, int) and 0 <= label < len(task.class_names)
    assert all(template.count("{}") == 1 for template in task.templates) and len(task.templates) >= 3
    assert len(set(task.class_names)) == len(task.class_names)
    assert set(inspect.signature(kind).parameters) == {"train_size", "test_size", "shots"}


@pytest.mark.parametrize("kind", TASKS)
def test_the_world_can_show_every_class(kind: type[MiniTask]) -> None:
    assert set(kind.class_names) <= set(KINDS[KIND_OF[kind.__name__]].names)


@pytest.mark.parametrize("kind", TASKS)
def test_a_smaller_set_is_a_prefix(kind: type[MiniTask]) -> None:
    large, little = small(kind, 260, 230), small(kind)
    assert np.array_equal(large.test_set.images[:7], little.test_set.images)
    assert large.train_set.labels[:5] == little.train_set.labels
    assert not np.array_equal(large.train_set.images[:5], large.test_set.images[:5])
    assert large.fingerprint != little.fingerprint


@pytest.mark.parametrize("kind", TASKS)
def test_setup_twice_does_nothing_and_fingerprints_agree(kind: type[MiniTask]) -> None:
    task = small(kind)
    before = task.train_set
    task.setup("fit")
    assert task.train_set is before
    again = small(kind)
    assert again.fingerprint == task.fingerprint == kind(train_size=5, test_size=7).fingerprint
    assert np.array_equal(again.train_set.images, task.train_set.images)


@pytest.mark.parametrize("kind", [kind for kind in TASKS if issubclass(kind, DrawnTask)])
def test_classes_are_balanced(kind: type[DrawnTask]) -> None:
    task = kind()
    for split, size in (("train", task.train_size), ("test", task.test_size)):
        count = np.bincount(task._labels(split, size), minlength=len(task.class_names))
        assert count.max() - count.min() <= 1


def test_digits_are_all_of_them_once() -> None:
    task = Digits()
    rows = task._rows("train", 10_000) + task._rows("test", 10_000)
    assert sorted(rows) == list(range(1797))
    assert (task.train_size, task.test_size) == (1000, 797)
    assert np.bincount(task._labels("test", 797)).min() > 60
    with pytest.raises(InputError, match="has 1000 training and 797 test images"):
        Digits(train_size=5000)


def test_an_empty_task_is_refused() -> None:
    with pytest.raises(InputError, match="needs training and test images"):
        Shapes(train_size=0)
