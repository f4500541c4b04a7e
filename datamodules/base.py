"""What every task of a sequence offers."""

from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, Protocol

from lightning import LightningDataModule
from torch import Tensor

from gift_lightning.errors import InputError
from gift_lightning.fetch import Report
from gift_lightning.settings import Configurable
from gift_lightning.sources import Inspection, Source


class ImageSet(Sized, Protocol):
    """A map-style set of ``(PIL image, label)`` pairs; labels count from 0.

    Sets that know their labels without decoding an image have them as a list ``labels``.
    """

    def __getitem__(self, index: int) -> tuple[Any, int]: ...


def is_template(text: str) -> bool:
    """Whether a prompt has one place, ``{}``, for a class name.

    >>> is_template("a photo of a {}."), is_template("a photo"), is_template("a {} of {x}")
    (True, False, False)
    """
    return text.count("{}") == 1 and not set("{}") & set(text.replace("{}", ""))


class Task(LightningDataModule, Configurable):
    """One task of a sequence: images with labels, and the names of its classes.

    Attributes:
        name: what the task is called in tables and files, see ``gift_lightning.names``; unique within a sequence.
        class_names: the class with label ``i`` is ``class_names[i]``.
        templates: prompts with one ``{}`` for the class name. The first is the training prompt; testing averages all.
        train_set: all training images, known after ``setup``; ``TaskSequence.train_set`` has those of a run.
        test_set: test images, known after ``setup``.
        root: the folder in which known data sets lie, set by the sequence where the task itself names none.
        shots: training images of each class that are taken, at random; ``None`` for what the sequence says.
    """

    name: str
    root: Path | None = None
    shots: int | None = None
    class_names: list[str]
    templates: list[str]
    train_set: ImageSet
    test_set: ImageSet

    @property
    def fingerprint(self) -> str:
        """Identifies the data of this task: equal if the same samples come in the same order.

        Two runs may be compared if the fingerprints of their tasks agree.
        """
        raise NotImplementedError(f"{type(self).__name__} has no fingerprint.")

    def inspect(self) -> Inspection:
        """What is found of the data, as far as ``setup`` tells; a task may know better without it."""
        try:
            self.setup("fit")
        except InputError as error:
            return Inspection(self.name, "missing", str(error))
        return Inspection(self.name, "present", found=(len(self.train_set), len(self.test_set)))

    def download(self, report: Report) -> None:
        """Fetch the data, as a ``Source`` does, if ``inspect`` says that it can be fetched."""
        raise NotImplementedError(f"{type(self).__name__} has no download.")

    def sources(self) -> list[Source]:
        """What must be on this machine before a run: the data, which is a source of itself."""
        return [self]

    def notes(self) -> list[str]:
        """Sentences on what a user should know of this data, after ``setup``: files that are no images, for instance.

        A run prints them first and keeps them in ``results.json``; ``doctor`` prints them too.
        """
        return []

    @property
    def origin(self) -> "Task":
        """The task whose data this is: itself, unless it is a part of another."""
        return self

    def subtasks(self) -> list["Task"]:
        """The tasks of a sequence that this one stands for: itself, unless it is cut into several."""
        return [self]

    def training_prompts(self) -> list[str]:
        """One prompt for each class, from the first template."""
        return [self.templates[0].format(name) for name in self.class_names]

    def prompts(self) -> list[list[str]]:
        """The prompts of each class in all templates."""
        return [[template.format(name) for template in self.templates] for name in self.class_names]

    def right(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """Whether the predicted classes ``[n]`` are those of the labels ``[n]``: boolean ``[n]``."""
        return predicted == labels


class Replay(LightningDataModule, Configurable):
    """Images and texts that a method sees beside the current task.

    Drawn ones, those of pre-training, of the task itself, or of earlier tasks: that is where the methods differ.

    Attributes:
        sequence: the ``TaskSequence`` it belongs to, which sets this: its tasks, seed and trainer.
        batch_size: pairs in one optimiser step, over all devices and accumulated batches.
        first_task: the first task that has a set.
        paired: whether each image has a text of its own.
        prompts: the distinct texts of the current set, known after ``prepare_task``.
        pairs: ``(PIL image, index of its prompt)`` of the current set, known after ``prepare_task``; -1 for an image
            without a text of its own. The same object as before if the images are the same.
        report: shows one line of text on how far the making of a set is, each time in the place of the last; where
            nothing can, lines are printed now and then.
    """

    sequence: Any
    batch_size: int
    first_task: int = 0
    paired: bool = True
    prompts: list[str]
    pairs: ImageSet
    report: Callable[[str], None] | None = None

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"`data.replay.batch_size` is {batch_size}: give at least 1.")
        self.batch_size = batch_size

    def sources(self) -> list[Source]:
        """What must be on this machine before a run, but for the tasks; nothing, unless a replay says so.

        One whose images must be there gives itself, with ``name`` and ``inspect``.
        """
        return []

    def download(self, report: Report) -> None:
        """As that of a ``Task``."""
        raise NotImplementedError(f"{type(self).__name__} has no download.")

    def notes(self) -> list[str]:
        """As those of a ``Task``, of what is known after ``setup``."""
        return []

    def prepare_task(self, task: int) -> None:
        """Make or read the set of ``task``; called on every rank before the task starts and on every resume into it."""
        raise NotImplementedError(f"{type(self).__name__} has no prepare_task.")
