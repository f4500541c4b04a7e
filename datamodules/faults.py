"""Images with faults: those of a sequence that do not decode, and those that decode although they are damaged."""

from collections.abc import Iterable
from typing import Any, Protocol

from lightning import Trainer

from datamodules.base import Replay, Task
from datamodules.images.damage import damaged_among
from datamodules.images.sets import ImageSet
from datamodules.ranks import on_all_ranks
from datamodules.stream import Split, StepBatches
from datamodules.substitutes import Substituted
from datamodules.training_images import TrainingImages

REPLAY = "data.replay"
"""Names the images of replay among those of tasks."""


class ReadSequence(Protocol):
    """The attributes of a ``TaskSequence`` that decide which images are read, and how often."""

    tasks: list[Task]
    replay: Replay | None
    batch_size: int
    shuffle: bool
    seed: int
    trainer: Trainer | None

    @property
    def names(self) -> list[str]:
        """The names of the tasks."""
        ...

    def steps(self, task: int) -> int:
        """Optimiser steps of ``task``."""
        ...

    @property
    def training_images(self) -> TrainingImages:
        """Those of its tasks in a run."""
        ...


class ImageFaults:
    """The images of a sequence with faults, among those that were read so far, and how often training met them.

    The state of a rank has the faults that it and its worker processes met, and those that the others had met when all
    ranks last called ``collect``.

    Args:
        sequence: with the images.
        skips: whether another image of the task takes the place of one that does not decode.

    Attributes:
        skipped: for each trained task that met images that do not decode, ``{"draws": how often the task's loss met
            one, "images": which}``.
        damaged: paths of images that decode although libjpeg reports damage, by the name of their task or
            ``REPLAY``.
    """

    def __init__(self, sequence: ReadSequence, skips: bool) -> None:
        self._sequence, self._skips = sequence, skips
        self._substituted: dict[int, Substituted] = {}
        self.skipped: dict[str, dict[str, Any]] = {}
        self.damaged: dict[str, list[str]] = {}

    def train_set(self, task: int) -> ImageSet:
        """The training images of ``task``, with others in the place of bad ones if those are skipped."""
        return self._with_substitutes(task) if self._skips else self._sequence.training_images.to_train(task)

    def add_damaged(self, name: str, paths: list[str]) -> None:
        """Take in damaged images of the task of this name."""
        self.damaged = _merged(self.damaged, [(name, paths)])

    def collect(self) -> dict[str, Any]:
        """Merge the faults that the ranks have met, and return the state with all; every rank has to call this."""
        trainer, state = self._sequence.trainer, self.state_dict()
        for of_rank in [state] if trainer is None else on_all_ranks(trainer, state):
            self.load_state_dict(of_rank)
        return self._state(self.damaged)

    def on_task_trained(self, task: int) -> None:
        """Count the images skipped in ``task``, whose steps are done; all ranks have to call this.

        How often a substitute was drawn follows from the training stream and the list of bad images. So that list
        alone travels: from worker processes, between ranks, and in checkpoints.
        """
        self.collect()
        if not self._skips:
            return
        samples, sequence = self._with_substitutes(task), self._sequence
        bad, key = set(samples.bad_indices), (sequence.seed, "task", task)
        stream = StepBatches(samples, sequence.batch_size, sequence.steps(task), key, sequence.shuffle, Split())
        drawn = [index for batch in stream for index, _ in batch if index in bad] if bad else []
        if drawn:
            images = [samples.name(index) for index in sorted(set(drawn))]
            self.skipped[sequence.names[task]] = {"draws": len(drawn), "images": images}

    def state_dict(self) -> dict[str, Any]:
        """The state of this rank, with images that were read since ``collect``; makes no collective call."""
        return self._state(_merged(self.damaged, damaged_among(self._sets())))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Add the faults of a state; how often images were skipped is that of the state."""
        for task, bad in state_dict.get("substitutes", {}).items() if self._skips else ():
            self._with_substitutes(task).bad[bad] = 1
        for name, paths in state_dict.get("damaged", {}).items():
            self.add_damaged(name, paths)
        self.skipped = state_dict.get("skipped", {})

    def _state(self, damaged: dict[str, list[str]]) -> dict[str, Any]:
        facts = {"skipped": dict(self.skipped), "damaged": dict(damaged)}
        state: dict[str, Any] = {name: fact for name, fact in facts.items() if fact}
        if self._skips:
            tasks = sorted(self._substituted)
            state["substitutes"] = {task: self._with_substitutes(task).bad_indices for task in tasks}
        return state

    def _with_substitutes(self, task: int) -> Substituted:
        """The same object each time, as long as the training images of ``task`` are."""
        samples = self._sequence.training_images.to_train(task)
        if task not in self._substituted or self._substituted[task].original is not samples:
            self._substituted[task] = Substituted(samples, (self._sequence.seed, "substitute", task))
        return self._substituted[task]

    def _sets(self) -> list[tuple[str, ImageSet]]:
        """The sets that are read, each with the name of its task."""
        sequence, images = self._sequence, self._sequence.training_images
        ready = [(number, task) for number, task in enumerate(sequence.tasks) if hasattr(task, "train_set")]
        sets = [(t.name, samples) for number, t in ready for samples in (images.to_train(number), t.test_set)]
        held = [(t.name, samples) for number, t in ready if (samples := images.to_validate(number)) is not None]
        pairs = getattr(sequence.replay, "pairs", None)
        is_a_tasks = any(pairs is samples for _, samples in sets)
        return sets + held if pairs is None or is_a_tasks else [*sets, *held, (REPLAY, pairs)]


def _merged(damaged: dict[str, list[str]], more: Iterable[tuple[str, list[str]]]) -> dict[str, list[str]]:
    """Paths of damaged images by name, with more of them."""
    merged = dict(damaged)
    for name, paths in more:
        if paths:
            merged[name] = sorted({*merged.get(name, []), *paths})
    return merged
