"""A data set cut into sub-tasks of some classes each."""

import hashlib
import json
from functools import cached_property
from pathlib import Path

from datamodules.base import Task
from datamodules.images.selection import Selection, labels_of
from datamodules.images.sets import ImageSet
from gift_lightning.errors import InputError
from gift_lightning.files import read_json
from gift_lightning.sources import Inspection, Source

ORDERS: dict[str, list[int]] = read_json(Path(__file__).with_name("class_orders.json"))
"""Published orders of classes, by name."""


class ClassIncremental(Task):
    """A data set whose classes come in sub-tasks, each to be tested among the classes seen so far.

    A ``TaskSequence`` takes the sub-tasks in its place; by itself, it is the whole data set. Set ``data.label_space``
    to ``seen``: R[i, j] is then the accuracy on the classes of sub-task j among those of the sub-tasks up to i, Avg and
    Last are those of all classes seen, and there is no Transfer.

    Args:
        source: the data set, any task.
        initial: classes of the first sub-task.
        increment: classes of each further sub-task; the last has the rest.
        order: of the classes: their labels, or the name of a published order (``cifar100``, ``tinyimagenet``);
            ``None`` for that of the labels.
        templates: of prompts, in the place of those of the source.

    Raises:
        InputError: ``initial`` or ``increment`` is less than 1, or there is no order of that name.
    """

    def __init__(
        self,
        source: Task,
        initial: int,
        increment: int,
        order: list[int] | str | None = None,
        templates: list[str] | None = None,
    ) -> None:
        super().__init__()
        for key, value in {"initial": initial, "increment": increment}.items():
            if value < 1:
                raise InputError(f"The steps of '{source.name}' have {key} {value}: give at least 1 class.")
        if isinstance(order, str) and order not in ORDERS:
            raise InputError(f"There is no class order '{order}': give labels, or one of {', '.join(ORDERS)}.")
        self.source, self.initial, self.increment, self.order = source, initial, increment, order
        self.name, self.templates, self.shots = source.name, list(templates or source.templates), source.shots

    @property
    def root(self) -> Path | None:  # type: ignore[override]
        """The root of the data set that is cut."""
        return self.source.root

    @root.setter
    def root(self, root: Path | None) -> None:
        self.source.root = root

    def prepare_data(self) -> None:
        self.source.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Find all images of the data set, with its labels."""
        self.source.setup(stage or "fit")
        self.class_names = self.source.class_names
        self.train_set, self.test_set = self.source.train_set, self.source.test_set

    @property
    def validation_set(self) -> ImageSet | None:  # type: ignore[override]
        """That of the source, which may list it when it is asked for."""
        return self.source.validation_set

    @property
    def fingerprint(self) -> str:
        """That of the source."""
        return self.source.fingerprint

    @property
    def origin(self) -> Task:
        return self.source

    def subtasks(self) -> list[Task]:
        """The tasks, named after the source and numbered from 1.

        Raises:
            InputError: the order does not name each class of the source once; or without an order, the data is
                missing.
        """
        order = ORDERS[self.order] if isinstance(self.order, str) else self.order
        if order is None:
            self.source.setup("fit")
            order = list(range(len(self.source.class_names)))
        if sorted(order) != list(range(len(order))):
            raise InputError(f"The class order of '{self.name}' must name each label from 0 to {len(order) - 1} once.")
        starts = [0, *range(self.initial, len(order), self.increment)]
        groups = [order[start:end] for start, end in zip(starts, [*starts[1:], len(order)], strict=True)]
        digits = len(str(len(groups)))
        self.number = len(order)
        return [Subtask(self, f"{self.name}_{number:0{digits}}", group) for number, group in enumerate(groups, start=1)]


class Subtask(Task):
    """The images of some classes of a data set, labelled from 0 in the order given.

    Args:
        whole: the data set.
        name: of the task.
        classes: labels in the data set.
    """

    def __init__(self, whole: ClassIncremental, name: str, classes: list[int]) -> None:
        super().__init__()
        self.whole, self.name, self.classes, self.templates = whole, name, classes, whole.templates
        self.shots = whole.shots

    def prepare_data(self) -> None:
        self.whole.source.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Find the images of the classes, once."""
        if hasattr(self, "train_set"):
            return
        source = self.whole.source
        source.setup(stage or "fit")
        if self.whole.number != len(source.class_names):
            raise InputError(
                f"The class order of '{source.name}' names {self.whole.number} classes, but it has"
                f" {len(source.class_names)}."
            )
        self.class_names = [source.class_names[label] for label in self.classes]
        self.train_set = of_classes(source.train_set, self.classes)
        self.test_set = of_classes(source.test_set, self.classes)

    @cached_property
    def validation_set(self) -> ImageSet | None:  # type: ignore[override]
        """The images of the classes in that of the source."""
        images = self.whole.source.validation_set
        return None if images is None else of_classes(images, self.classes)

    @property
    def fingerprint(self) -> str:
        """Hash of the source's fingerprint and the classes."""
        facts = [self.whole.source.fingerprint, self.classes]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def notes(self) -> list[str]:
        return self.origin.notes()

    @property
    def origin(self) -> Task:
        return self.whole.source

    def inspect(self) -> Inspection:
        return self.origin.inspect()

    def sources(self) -> list[Source]:
        return self.origin.sources()


def of_classes(samples: ImageSet, classes: list[int]) -> Selection:
    """The samples of some classes, in the order of the set; class ``classes[i]`` has label ``i``."""
    new = {label: number for number, label in enumerate(classes)}
    chosen = [(index, new[label]) for index, label in enumerate(labels_of(samples)) if label in new]
    return Selection(samples, [index for index, _ in chosen], [label for _, label in chosen])
