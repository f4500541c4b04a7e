"""Training on in spite of images that do not decode: others stand in for them, and it is told how often."""

from typing import Any

import torch
from torch.utils.data import Dataset

from datamodules.base import ImageSet
from datamodules.ranks import on_all_ranks
from datamodules.stream import Split, StepBatches
from gift_lightning.errors import ImageInputError
from gift_lightning.seeding import stream_seed

ATTEMPTS = 20
"""Images tried in the place of one that does not decode; if none of them does, the set is held to be broken."""


class Substituted(Dataset[tuple[Any, int]]):
    """A training set in which another of its samples, always the same one, stands in for one that does not decode.

    Args:
        samples: the set.
        key: which sample that is follows from it and the index, e.g. ``(seed, "substitute", task)``.

    Attributes:
        bad: ``[n]`` uint8, 1 for each image that was found not to decode, by whichever process.

    Raises:
        ImageInputError: when an image is asked for that does not decode, nor do ``ATTEMPTS`` others.
    """

    def __init__(self, samples: ImageSet, key: tuple[int | str, ...]) -> None:
        self._samples, self._key = samples, key
        self.bad = torch.zeros(len(samples), dtype=torch.uint8).share_memory_()  # with the processes that load images

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        tried, error = index, None
        for attempt in range(ATTEMPTS + 1):
            try:
                return self._samples[tried]
            except ImageInputError as found:
                error = error or found
                self.bad[tried] = 1
                tried = stream_seed(*self._key, index, attempt) % len(self)
        assert error is not None
        raise error

    def name(self, index: int) -> str:
        """The file of a sample, if the set tells it."""
        samples = getattr(self._samples, "samples", None)
        return f"image {index}" if samples is None else str(samples[index][0])


class Substitutes:
    """The training sets of a sequence with substitutes, and the account of their use.

    How often a substitute was drawn follows from the training stream, which is known, and from which images are bad.
    So only that travels: from worker processes, between ranks, and in checkpoints.

    Args:
        sequence: the ``TaskSequence``.
    """

    def __init__(self, sequence: Any) -> None:
        self._sequence = sequence
        self._sets: dict[int, Substituted] = {}

    def train_set(self, task: int) -> Substituted:
        """The training set of ``task``, the same object each time."""
        if task not in self._sets:
            key = (self._sequence.seed, "substitute", task)
            self._sets[task] = Substituted(self._sequence.tasks[task].train_set, key)
        return self._sets[task]

    def used(self, task: int) -> dict[str, Any] | None:
        """Of ``task``, whose steps are done: ``{"draws": how often a bad image was drawn, "images": which}``.

        All ranks have to call this. ``None`` if there was none.
        """
        bad, sequence = set(self.state_dict().get(task, [])), self._sequence
        samples, key = self.train_set(task), (sequence.seed, "task", task)
        stream = StepBatches(samples, sequence.batch_size, sequence.steps(task), key, sequence.shuffle, Split())
        drawn = [index for batch in stream for index, _ in batch if index in bad] if bad else []
        images = [samples.name(index) for index in sorted(set(drawn))]
        return {"draws": len(drawn), "images": images} if drawn else None

    def state_dict(self) -> dict[int, list[int]]:
        """Indices of the images of each task that any rank found not to decode; all of them have to call this."""
        found = {task: samples.bad.nonzero().flatten().tolist() for task, samples in self._sets.items()}
        ranks = [found] if self._sequence.trainer is None else on_all_ranks(self._sequence.trainer, found)
        tasks = sorted({task for rank in ranks for task in rank})
        return {task: sorted({index for rank in ranks for index in rank.get(task, [])}) for task in tasks}

    def load_state_dict(self, state_dict: dict[int, list[int]]) -> None:
        for task, bad in state_dict.items():
            self.train_set(task).bad[bad] = 1
