"""The interfaces of tasks, of candidate classes, and of replay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.images.selection import FewShot, hold_out
from datamodules.images.sets import ImageSet
from datamodules.loaders import TextPairs, evaluation_loader, pair_loader, train_loader
from datamodules.preprocessing import CLIP_TRANSFORMS, Preprocessing
from datamodules.stream import Split
from gift_lightning.errors import InputError
from gift_lightning.fetch import Report
from gift_lightning.settings import Configurable
from gift_lightning.sources import Inspection, Source


def is_template(text: str) -> bool:
    """Whether a prompt has one place, ``{}``, for a class name.

    >>> is_template("a photo of a {}."), is_template("a photo"), is_template("a {} of {x}")
    (True, False, False)
    """
    return text.count("{}") == 1 and not set("{}") & set(text.replace("{}", ""))


class Candidates:
    """Classes with their prompts, among which a model chooses for an image.

    Attributes:
        name: of the task of the images.
        class_names: the class with label ``i`` is ``class_names[first_class + i]``.
        templates: prompts with one ``{}`` for the class name. The first is the training prompt; testing averages all.
        first_class: number of the first class of that task.
    """

    name: str
    class_names: list[str]
    templates: list[str]
    first_class: int = 0

    def class_prompts(self) -> list[list[str]]:
        """The prompts of each class, in all templates."""
        return [[template.format(name) for template in self.templates] for name in self.class_names]

    def merged(self, classes: Tensor) -> Tensor:
        """The first of the classes that count as one with each class, by their numbers ``[n]``: here each by itself."""
        return classes

    def right(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """Whether the predicted classes ``[n]`` are those of the labels ``[n]``: boolean ``[n]``."""
        return self.merged(predicted) == self.merged(self.first_class + labels)


class Task(Candidates, LightningDataModule, Configurable):
    """One task of a sequence: images with labels, and the names of its classes.

    By itself, it is the data of any LightningModule: ``Trainer().fit(module, Aircraft("data"))``. Its three loaders
    give ``(images [b, 3, H, W], labels [b])``, float and integer. A part of the training images is held out for
    validation, because settings are not chosen on test images. A ``TaskSequence`` makes other loaders: it trains on all
    of ``train_set``, with the transforms of its model, and uses none of the settings below ``shots``.

    Attributes:
        name: the task's name in tables and files, see ``gift_lightning.names``; unique within a sequence.
        train_set: all training images, after ``setup``; ``TaskSequence.train_set`` has those of a run.
        test_set: test images, after ``setup``.
        validation_set: images that come with the data for validation, after ``setup``; ``None`` without any.
        root: the folder of the data sets of ``datamodules.mtil``, set by the sequence where the task itself has none.
        shots: training images of each class that are taken, at random; ``None`` for the number of the sequence, or all.
        preprocessing: transforms of the images: CLIP's usual ones for 224 pixels. A ``CLIP`` will do.
        batch_size: images in a batch of each process.
        num_workers: processes that load and transform images; 0 loads in the training process.
        seed: of the order and the augmentation of training images, of the ``shots`` and of the images held out.
        val_share: part of the training images that is held out for validation, in [0, 1): about the same part of each
            class, at least one image where there is one, and never a class's last. A ``validation_set`` is taken
            instead.
    """

    name: str  # LightningDataModule has one, which may be None
    train_set: ImageSet
    test_set: ImageSet
    validation_set: ImageSet | None = None
    root: Path | None = None
    _sequence_root: Path | None = None  # the root, if a sequence set it
    shots: int | None = None
    preprocessing: Preprocessing = CLIP_TRANSFORMS
    batch_size: int = 64
    num_workers: int = 0
    seed: int = 0
    val_share: float = 0.1
    _division: tuple[tuple[int, float, int], tuple[ImageSet, ImageSet]] | None = None

    def train_dataloader(self) -> DataLoader[Any]:
        """Training images but those held out, augmented, shuffled in each epoch.

        Order and augmentation are a function of seed, epoch and image: the same for any number of workers and ranks.

        Raises:
            InputError: ``val_share`` is not in [0, 1), or ``shots`` is less than 1.
        """
        samples: ImageSet = self._held_out()[0]
        if self.shots is not None:
            if self.shots < 1:
                raise InputError(f"shots of task '{self.name}' is {self.shots}: give at least 1 image of each class.")
            samples = FewShot(samples, self.shots, (self.seed, self.name))
        key, split = (self.seed, "task by itself", self.name), Split.of_ranks(self.trainer)
        return train_loader(samples, self.preprocessing, key, self.batch_size, self.num_workers, split)

    def val_dataloader(self) -> DataLoader[Any]:
        """The training images held out, with the test transform; none if no class has an image to spare.

        Raises:
            InputError: ``val_share`` is not in [0, 1).
        """
        return evaluation_loader(self._held_out()[1], self.preprocessing, self.batch_size, self.num_workers)

    def test_dataloader(self) -> DataLoader[Any]:
        """The test images, with the test transform, in the order of ``test_set``."""
        return evaluation_loader(self.test_set, self.preprocessing, self.batch_size, self.num_workers)

    def _held_out(self) -> tuple[ImageSet, ImageSet]:
        """The training images to train on, and those held out for validation."""
        if not 0 <= self.val_share < 1:
            raise InputError(f"val_share of task '{self.name}' is {self.val_share}: give a number from 0 to below 1.")
        if self.val_share and self.validation_set is not None:
            return self.train_set, self.validation_set
        key = (id(self.train_set), self.val_share, self.seed)
        if self._division is None or self._division[0] != key:  # a set without a list of labels decodes all its images
            self._division = key, hold_out(self.train_set, self.val_share, (self.seed, self.name))
        return self._division[1]

    @property
    def fingerprint(self) -> str:
        """Identifies the data of this task: equal if the same samples come in the same order.

        Two runs may be compared if the fingerprints of their tasks agree.
        """
        raise NotImplementedError(f"{type(self).__name__} has no fingerprint.")

    def inspect(self) -> Inspection:
        """The state of the data on this machine, as ``setup`` shows it; a task may find out without it."""
        try:
            self.setup("fit")
        except InputError as error:
            return Inspection(self.name, "missing", str(error))
        return Inspection(self.name, "present", counts=(len(self.train_set), len(self.test_set)))

    def download(self, report: Report) -> None:
        """Fetch the data, as a ``Source`` does, if ``inspect`` says that it can be fetched."""
        raise NotImplementedError(f"{type(self).__name__} has no download.")

    def sources(self) -> list[Source]:
        """The data and files that a run needs on this machine: the task is one itself."""
        return [self]

    def notes(self) -> list[str]:
        """Sentences for the user on peculiarities of this data, after ``setup``: files that are no images, for example.

        A run prints them first and keeps them in ``results.json``; ``doctor`` prints them too.
        """
        return []

    @property
    def origin(self) -> "Task":
        """The task that has the data: itself, unless it is a sub-task of another."""
        return self

    def subtasks(self) -> list["Task"]:
        """The tasks of a sequence that this one stands for: itself, unless it is cut into several."""
        return [self]

    def training_prompts(self) -> list[str]:
        """One prompt for each class, from the first template."""
        return [self.templates[0].format(name) for name in self.class_names]


class ReplayedSequence(Protocol):
    """The part of a ``TaskSequence`` that a replay needs.

    Attributes:
        tasks: in the order of training.
        seed: of the run.
        num_workers: processes that load images.
        preprocessing: of the model in training; CLIP's usual one without a trainer.
        trainer: of the run; ``None`` without one.
    """

    tasks: list[Task]
    seed: int
    num_workers: int
    preprocessing: Preprocessing
    trainer: Trainer | None

    @property
    def num_tasks(self) -> int:
        """The length of the sequence."""
        ...

    @property
    def names(self) -> list[str]:
        """The names of the tasks."""
        ...

    def train_set(self, task: int) -> ImageSet:
        """The training images of ``task`` in a run."""
        ...


class Replay(LightningDataModule, Configurable):
    """Images and texts that a method sees beside the current task.

    Synthetic images, pre-training data, the task itself, or a memory of earlier tasks: here the methods differ.

    After ``prepare_task``, a replay is also the training data of any LightningModule, with ``train_dataloader``. That
    needs no trainer::

        replay = SyntheticReplay("runs/replay")
        sequence = TaskSequence([Aircraft(), Flowers()], replay=replay)
        sequence.setup()
        replay.prepare_task(1)
        for images, texts in replay.train_dataloader(): ...

    Attributes:
        sequence: the ``TaskSequence`` it belongs to, which sets this: the latest one that was made with it.
        batch_size: pairs in one optimiser step, over all devices and accumulated batches.
        first_task: the first task that has a set.
        paired: whether each image has its text.
        texts: the distinct texts of the current set, after ``prepare_task``.
        pairs: ``(PIL image, index of its text)`` of the current set, after ``prepare_task``; -1 for an image without a
            text. The same object as before if the images are the same.
        report: shows one line of text on the progress of making a set, each time in the place of the last; ``None``
            prints lines now and then.
    """

    sequence: ReplayedSequence
    batch_size: int
    first_task: int = 0
    paired: bool = True
    texts: list[str]
    pairs: ImageSet
    report: Callable[[str], None] | None = None

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"`data.replay.batch_size` is {batch_size}: give at least 1.")
        self.batch_size = batch_size

    def sources(self) -> list[Source]:
        """The data and files that a run needs on this machine beside the tasks; none by default.

        A replay that reads images from disk gives itself, with ``name`` and ``inspect``.
        """
        return []

    def download(self, report: Report) -> None:
        """Fetch the data, as ``Task.download`` does."""
        raise NotImplementedError(f"{type(self).__name__} has no download.")

    def notes(self) -> list[str]:
        """Sentences for the user, as those of ``Task.notes``."""
        return []

    def prepare_task(self, task: int) -> None:
        """Make or read the set of ``task``; called on every rank before the task starts and on every resume into it."""
        raise NotImplementedError(f"{type(self).__name__} has no prepare_task.")

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches ``(images [b, 3, H, W], texts)`` of the current set, the texts as a list; shuffled in each epoch.

        Images have the test transform, as in the methods, whose teacher is to see the same image at each use. Each
        process gets batches of ``batch_size``. In a run the sequence makes the loader: it also needs the indices of
        texts and pairs, and divides a batch among all processes.

        Raises:
            InputError: ``prepare_task`` was not called, or images and texts are no pairs.
        """
        kind = type(self).__name__
        if not hasattr(self, "sequence"):
            raise InputError(f"{kind} belongs to no sequence: give it to a TaskSequence as replay.")
        sequence = self.sequence
        if not self.paired:
            raise InputError(f"The images and texts of {kind} are no pairs: read `pairs` and `texts` each by itself.")
        if not hasattr(self, "pairs"):
            raise InputError(f"{kind} has no images yet: call prepare_task first, with the number of a task.")
        pairs = TextPairs(self.pairs, self.texts, sequence.preprocessing)
        key, split = (sequence.seed, "replay by itself"), Split.of_ranks(self.trainer)
        return pair_loader(pairs, key, self.batch_size, sequence.num_workers, split)
