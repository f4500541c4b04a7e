"""A few training images of each class."""

from typing import Any

import torch
from torch.utils.data import Dataset

from datamodules.base import ImageSet
from gift_lightning.seeding import stream_seed


class FewShot(Dataset[tuple[Any, int]]):
    """``shots`` samples of each class of a set, or all of a class that has fewer, in the order of the set.

    Args:
        samples: the set; with ``labels``, no image is decoded.
        shots: samples of each class.
        key: what the choice depends on, e.g. ``(seed, "Aircraft")``.
    """

    def __init__(self, samples: ImageSet, shots: int, key: tuple[int | str, ...]) -> None:
        labels = labels_of(samples)
        generator = torch.Generator().manual_seed(stream_seed(*key, "shots"))
        chosen, taken = [], [0] * (max(labels, default=-1) + 1)
        for index in torch.randperm(len(labels), generator=generator).tolist():
            if taken[labels[index]] < shots:
                taken[labels[index]] += 1
                chosen.append(index)
        self.samples, self.indices = samples, sorted(chosen)
        self.labels = [labels[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.samples[self.indices[index]]


def whole(samples: ImageSet) -> ImageSet:
    """All samples of the set that few were taken of."""
    return samples.samples if isinstance(samples, FewShot) else samples


def labels_of(samples: ImageSet) -> list[int]:
    """The label of each sample; images are decoded only if the set does not know its labels otherwise."""
    known: list[int] | None = getattr(samples, "labels", None)
    return known if known is not None else [samples[index][1] for index in range(len(samples))]
