"""Subsets of an image set."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch.utils.data import Dataset

from datamodules.images.sets import ImageSet, Sample
from gift_lightning.seeding import stream_seed


class Selection(Dataset[tuple[Any, int]]):
    """Some samples of a set, with new labels. Its properties are those of the set, for these samples.

    Args:
        whole: the set.
        indices: of the samples in it.
        labels: of the samples, one for each index.
    """

    def __init__(self, whole: ImageSet, indices: Sequence[int], labels: Sequence[int]) -> None:
        self.whole, self.indices, self.labels = whole, list(indices), list(labels)

    @property
    def samples(self) -> list[Sample]:
        """Path and label of each sample."""
        listed: Any = self.whole.samples  # type: ignore[attr-defined]  # once: it may be a property too
        return [(listed[index][0], label) for index, label in zip(self.indices, self.labels, strict=True)]

    @property
    def damage(self) -> Any:
        """uint8 ``[n]``, see ``ImageFiles.damage``; an ``AttributeError`` for a set without it."""
        whole: Any = self.whole
        return whole.damage[self._places]

    @cached_property
    def _places(self) -> torch.Tensor:
        return torch.tensor(self.indices, dtype=torch.long)

    @property
    def content(self) -> Any:
        """The method ``content`` of the whole set; an ``AttributeError`` for a set without it."""
        whole: Any = self.whole
        return whole.content

    @property
    def sizes(self) -> Any:
        """A function like ``ImageFiles.sizes``; an ``AttributeError`` for a set without it."""
        whole: Any = self.whole
        of_whole = whole.sizes  # a set in memory has none
        return lambda indices: of_whole([self.indices[index] for index in indices])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.whole[self.indices[index]][0], self.labels[index]


class FewShot(Selection):
    """``shots`` samples of each class of a set, or all of a class that has fewer, in the order of the set.

    Args:
        whole: the set.
        shots: samples of each class.
        key: of the random choice, e.g. ``(seed, "Aircraft")``.
    """

    def __init__(self, whole: ImageSet, shots: int, key: tuple[int | str, ...]) -> None:
        labels = labels_of(whole)
        generator = torch.Generator().manual_seed(stream_seed(*key, "shots"))
        chosen, taken = [], [0] * (max(labels, default=-1) + 1)
        for index in torch.randperm(len(labels), generator=generator).tolist():
            if taken[labels[index]] < shots:
                taken[labels[index]] += 1
                chosen.append(index)
        super().__init__(whole, sorted(chosen), [labels[index] for index in sorted(chosen)])


def hold_out(whole: ImageSet, share: float, key: tuple[int | str, ...]) -> tuple[Selection, Selection]:
    """A set in two parts, each in the order of the set: the samples that stay, and those held out, at random.

    Args:
        whole: the set.
        share: part of the samples that is held out, in [0, 1): at least one if it is not 0, about the same part of
            each class, and never a class's last sample.
        key: the choice is a function of it, e.g. ``(seed, "Aircraft")``.
    """
    labels = labels_of(whole)
    generator = torch.Generator().manual_seed(stream_seed(*key, "held out"))
    sizes, taken, ranked = Counter(labels), Counter[int](), []
    for place, index in enumerate(torch.randperm(len(labels), generator=generator).tolist()):
        label = labels[index]
        taken[label] += 1
        if taken[label] < sizes[label]:
            ranked.append(((taken[label] - 0.5) / sizes[label], place, index))  # the part of its class that is out then
    count = max(1, round(share * len(labels))) if share else 0
    out = {index for *_, index in sorted(ranked)[:count]}
    parts = [index for index in range(len(labels)) if index not in out], sorted(out)
    stay, held = (Selection(whole, part, [labels[index] for index in part]) for part in parts)
    return stay, held


def labels_of(samples: ImageSet) -> list[int]:
    """The label of each sample; images are decoded only for a set without the attribute ``labels``."""
    labels: list[int] | None = getattr(samples, "labels", None)
    return labels if labels is not None else [samples[index][1] for index in range(len(samples))]
