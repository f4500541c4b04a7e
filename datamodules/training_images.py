"""The training images of a sequence's tasks in a run: without those held out for validation, and few of each class."""

from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.base import Task
from datamodules.images.selection import FewShot, Selection, hold_out
from datamodules.images.sets import ImageSet, samples_hash
from gift_lightning.errors import InputError, nearest


class TrainingImages:
    """What a run trains on and what it validates on: two parts of the ``train_set`` of each task.

    First the validation images are held out, then ``shots`` of each class are drawn among the others. Both choices are
    a function of the seed and the name of the task. No test image takes part in them. A task whose data come with a
    ``validation_set`` keeps all its training images: with any share, it is validated on that set.

    Args:
        tasks: of the sequence; their ``train_set`` is read when it is asked for.
        shots: training images of each class, for the tasks without a number; ``None`` for all.
        validation_share: part of the training images of each task that is held out, or one for some tasks by name;
            ``None`` for none.
        seed: of the run.

    Raises:
        InputError: a share is not in [0, 1), or is that of a task which is not in the sequence.
    """

    def __init__(
        self, tasks: Sequence[Task], shots: int | None, validation_share: float | Mapping[str, float] | None, seed: int
    ) -> None:
        self._tasks, self._shots, self._seed = tasks, shots, seed
        names = list(dict.fromkeys(name for task in tasks for name in (task.name, task.origin.name)))
        if isinstance(validation_share, int | float):
            validation_share = dict.fromkeys(names, validation_share)
        self._shares = dict(validation_share or {})
        for name, share in self._shares.items():
            if name not in names:
                hint = nearest(name, names)
                raise InputError(f"`data.validation_share` names '{name}', which is no task of the sequence{hint}.")
            if not 0 <= share < 1:
                raise InputError(f"`data.validation_share` is {share}: give a number from 0 to below 1.")
        self._parts: dict[int, tuple[ImageSet, Selection, Selection]] = {}  # whole, to train on, held out
        self._few: dict[int, FewShot] = {}

    @property
    def validates(self) -> bool:
        """Whether any task has validation images."""
        return any(self._shares.values())

    def share_of(self, task: Task) -> float:
        """Part of the training images of a task that is asked for; 0 for no validation."""
        return self._shares.get(task.name, self._shares.get(task.origin.name, 0.0))

    def words_of(self, task: Task) -> str:
        """Where the validation images of a task are from, in words for its fingerprint; empty without any."""
        if not (share := self.share_of(task)):
            return ""
        if task.validation_set is None:
            return f"{share:g} held out"
        listed: Any = task.validation_set
        return f"own validation images {samples_hash(listed, listed)}" if hasattr(listed, "samples") else "own images"

    def shots_of(self, task: Task) -> int | None:
        """Training images of each class of a task; ``None`` for all."""
        return self._shots if task.shots is None else task.shots

    def to_train(self, task: int) -> ImageSet:
        """The images on which a run trains in task number ``task``, which is set up; the same object each time."""
        current = self._tasks[task]
        rest = self._parted(task)[0]
        if (shots := self.shots_of(current)) is None:
            return rest
        if task not in self._few or self._few[task].whole is not rest:
            self._few[task] = FewShot(rest, shots, (self._seed, current.name))
        return self._few[task]

    def before_shots(self, task: int) -> ImageSet:
        """All images of task number ``task`` but those held out."""
        return self._parted(task)[0]

    def to_validate(self, task: int) -> ImageSet | None:
        """The images held out of task number ``task``, which is set up; ``None`` without a share.

        Raises:
            InputError: none of its images can be held out, as there is one of each class.
        """
        current = self._tasks[task]
        if not self.share_of(current):
            return None
        held = self._parted(task)[1]
        if not len(held):
            why = "one training image of each class" if current.validation_set is None else "no images in its own set"
            raise InputError(
                f"Task '{current.name}' has {why}, and so none for validation: leave it out of `data.validation_share`."
            )
        return held

    def _parted(self, task: int) -> tuple[ImageSet, ImageSet]:
        """The images to train on, and those to validate on."""
        current, share = self._tasks[task], self.share_of(self._tasks[task])
        if not share:
            return current.train_set, []
        if current.validation_set is not None:
            return current.train_set, current.validation_set
        if task not in self._parts or self._parts[task][0] is not current.train_set:
            key = (self._seed, current.name)
            self._parts[task] = (current.train_set, *hold_out(current.train_set, share, key))
        return self._parts[task][1:]
