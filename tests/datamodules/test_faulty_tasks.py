"""Faults of a user's own data set get one sentence that names the task, before a run begins."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules import SyntheticReplay, Task, TaskSequence
from datamodules.images.sets import ArrayImages
from datamodules.mini import Flags
from datamodules.prediction import NamedClasses
from gift_lightning.errors import InputError
from gift_lightning.methods import Finetune
from gift_lightning.names import fault_of_task
from tests.callbacks.test_task_boundary import MINI, trainer_with


def images(labels: Any) -> ArrayImages:
    return ArrayImages(np.zeros((len(labels), 8, 8), dtype="uint8"), labels, "images")


class Own(Task):
    name = "Own"
    class_names = ["even", "odd"]
    templates = ["an {} number"]

    def setup(self, stage: str | None = None) -> None:
        self.train_set, self.test_set = images([0, 1, 1]), images([1, 0])


def own(**attributes: Any) -> Task:
    """A task with other attributes than ``Own``; those that are functions are called in ``setup``."""

    def setup(self: Any, stage: str | None = None) -> None:
        Own.setup(self, stage)
        for name, value in attributes.items():
            setattr(self, name, value)

    task: Task = type("Own", (Own,), {"setup": setup})()
    return task


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            own(train_set=images([1, 2, 2])),
            "Own' has a training image with the label 2, and 2 class names: labels count",
        ),
        (
            own(test_set=images([-1, 0])),
            "Own' has a test image with the label -1, and 2 class names: labels count from 0",
        ),
        (own(class_names="ab"), "Own' has a text for class_names or templates: give lists of texts"),
        (own(templates="a {}"), "Own' has a text for class_names or templates: give lists of texts"),
        (type("Bare", (Task,), {"name": "Bare", "setup": lambda self, stage: None})(), "Bare has no class_names after"),
    ],
)
def test_a_faulty_task_is_refused(task: Task, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TaskSequence([task]).setup()


def test_labels_may_be_an_array() -> None:
    task = own(train_set=images(np.array([0, 1, 1])), test_set=[(Image.new("L", (8, 8)), 1)])
    TaskSequence([task]).setup()


def test_each_image_has_a_label() -> None:
    with pytest.raises(InputError, match="There are 3 images in images and 2 labels: give one for each"):
        ArrayImages(np.zeros((3, 8, 8), dtype="uint8"), [0, 1], "images")


def test_what_predict_asks_for_has_the_name_of_no_task() -> None:
    """A method with an expert for each task would take that of a task of this name."""
    assert fault_of_task(NamedClasses(["cat", "dog"], ["a {}"]).name)


def test_loaders_that_belong_to_a_run_or_a_sequence_are_refused_without() -> None:
    with pytest.raises(InputError, match="has loaders in a run alone: call fit, or use the loaders of each task"):
        TaskSequence([Flags(8, 8)]).train_dataloader()
    with pytest.raises(InputError, match="SyntheticReplay belongs to no sequence: give it to a TaskSequence"):
        SyntheticReplay("nowhere", initial_prompts=["a cat"]).train_dataloader()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"betas": (2, 3)}, r"betas is \[2, 3\]: give two numbers from 0 to less than 1"),
        ({"clip": "package:datamodules.mini.clip"}, r"clip is the text .*: give CLIPSource\('package:datamodules"),
    ],
)
def test_impossible_arguments_of_any_method(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Finetune(**{"clip": MINI, **arguments})


def test_batches_are_accumulated_once_at_least() -> None:
    with pytest.raises(InputError, match="accumulate_grad_batches is 0: give at least 1"):
        trainer_with(accumulate_grad_batches=0).fit(Finetune(clip=MINI), TaskSequence([Flags(8, 8)] * 1, steps=1))
