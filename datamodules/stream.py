"""The training stream: the samples of optimiser step s, for any number of ranks, workers and restarts."""

import time
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import torch
from lightning import Trainer
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from datamodules.images.sets import ImageSet
from datamodules.shard import ReplayBatch, ReplayImages, TestShard
from gift_lightning.seeding import seed_generators, stream_seed

Key = tuple[int | str, ...]
"""Identifies a stream, e.g. ``(seed, "task", 3)``: its random numbers are a function of the key and a position."""


@dataclass(frozen=True)
class Split:
    """How one optimiser step is divided: over ranks, and within a rank over accumulated micro-batches."""

    rank: int = 0
    world_size: int = 1
    accumulate: int = 1

    @classmethod
    def of_ranks(cls, trainer: Trainer | None) -> "Split":
        """The division over the ranks of a trainer alone; the whole without one."""
        return cls() if trainer is None else cls(trainer.global_rank, trainer.world_size)


class StepBatches(Sampler[list[tuple[int, int]]]):
    """This rank's micro-batches of every optimiser step, as lists of ``(sample index, ordinal of the draw)``.

    The stream of draws is endless: shuffle after shuffle of the set, so a batch may span two of them. Step ``s`` takes
    draws ``s * batch_size`` up to ``(s + 1) * batch_size``, on any rank.

    Args:
        samples: the set, or a stand-in for one that is made later: its length is read at the first batch.
        batch_size: samples in one optimiser step, over all ranks and micro-batches.
        steps: number of optimiser steps.
        key: of the stream.
        shuffle: ``False`` takes the samples in order, again and again.
        split: this rank's part.
    """

    def __init__(self, samples: Sized, batch_size: int, steps: int, key: Key, shuffle: bool, split: Split) -> None:
        self.samples, self.batch_size, self.steps = samples, batch_size, steps
        self.key, self.shuffle, self.split = key, shuffle, split
        self.start = 0

    def __len__(self) -> int:
        return self.steps * self.split.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        size, micro_batches = len(self.samples), self.split.world_size * self.split.accumulate
        micro_size = self.batch_size // micro_batches
        epoch, order = -1, []
        for micro_batch in range(self.start, len(self)):
            first = (micro_batch * self.split.world_size + self.split.rank) * micro_size
            batch = []
            for ordinal in range(first, first + micro_size):
                if ordinal // size != epoch:
                    epoch = ordinal // size
                    order = shuffled(self.key, epoch, size) if self.shuffle else list(range(size))
                batch.append((order[ordinal % size], ordinal))
            yield batch


def shuffled(key: Key, epoch: int, size: int) -> list[int]:
    """The indices of ``size`` samples in the order of an epoch, which is a function of the key of the stream."""
    generator = torch.Generator().manual_seed(stream_seed(*key, "shuffle", epoch))
    return torch.randperm(size, generator=generator).tolist()


class SeededSamples(Dataset[tuple[Any, int]]):
    """Transformed samples; the random numbers of a transform depend on the stream and the ordinal of the draw alone."""

    def __init__(self, samples: ImageSet, transform: Callable[[Any], Any], key: Key) -> None:
        self.samples, self.transform, self.key = samples, transform, key

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: tuple[int, int]) -> tuple[Any, int]:
        index, ordinal = draw
        seed_generators(stream_seed(*self.key, "augment", ordinal))
        image, label = self.samples[index]
        return self.transform(image), label


class ReplayDraws(Dataset[ReplayBatch]):
    """Batches of the replay set of the current task: of one in the memory of the device, the indices alone.

    Attributes:
        images: the set, its labels the text indices; set after Lightning has asked for loaders.
    """

    def __init__(self) -> None:
        self.images: ReplayImages = TestShard.empty()

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, draws: list[tuple[int, int]]) -> ReplayBatch:
        return ReplayBatch.of(self.images, torch.tensor([index for index, _ in draws]))


class StepLoader(DataLoader[Any]):
    """A loader that remembers how many batches it delivered, so that a restart continues with the next one.

    The position counts batches *delivered*, not prefetched. It belongs to one task: the state of another task's loader
    is ignored, because Lightning restores a finished task's state into the loader of the next one. Workers start at
    the first batch, not at ``iter()``, which Lightning calls more often than it reads.

    Attributes:
        waited: seconds in which the caller had to wait for batches.
    """

    batch_sampler: StepBatches
    waited = 0.0

    def __init__(
        self, task: int, samples: Dataset[Any], batches: StepBatches, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        super().__init__(
            samples, batch_sampler=batches, num_workers=num_workers, pin_memory=pin_memory, collate_fn=_collated
        )
        self.task = task
        self.delivered = 0
        self._resume_at = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.delivered = self.batch_sampler.start = self._resume_at
        if isinstance(self.dataset, ReplayDraws) and isinstance(self.dataset.images, TestShard):
            self.num_workers = 0  # indices cost less than their way from a worker, which must not see the device
        began = time.perf_counter()
        for batch in super().__iter__():
            self.waited += time.perf_counter() - began
            self.delivered += 1
            yield batch
            began = time.perf_counter()

    def state_dict(self) -> dict[str, int]:
        """The task, and the number of batches delivered."""
        return {"task": self.task, "delivered": self.delivered}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that the saved loader delivered, if it is of the same task."""
        if state["task"] == self.task:
            self._resume_at = self.delivered = state["delivered"]


def _collated(samples: Any) -> Any:
    """A batch of samples; one that is made whole stays as it is. A function, so that it can be sent to workers."""
    return samples if isinstance(samples, ReplayBatch) else default_collate(samples)
