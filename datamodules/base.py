"""What every task of a sequence offers."""

from collections.abc import Sized
from typing import Any, Protocol

from lightning import LightningDataModule


class ImageSet(Sized, Protocol):
    """A map-style set of ``(PIL image, label)`` pairs; labels count from 0."""

    def __getitem__(self, index: int) -> tuple[Any, int]: ...


class Task(LightningDataModule):
    """One task of a sequence: images with labels, and the names of its classes.

    Attributes:
        name: what the task is called in tables and files; unique within a sequence.
        class_names: the class with label ``i`` is ``class_names[i]``.
        templates: prompts with one ``{}`` for the class name. The first is the training prompt; testing averages all.
        train_set: training images, known after ``setup``.
        test_set: test images, known after ``setup``.
    """

    name: str
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

    def training_prompts(self) -> list[str]:
        """One prompt for each class, from the first template."""
        return [self.templates[0].format(name) for name in self.class_names]
