"""Images decoded once and kept: one rank's part of a test set for all evaluations, a replay set for all its steps."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from datamodules.images.sets import ImageSet

KEPT_IMAGES = 10_000
"""Images that a set may have to be kept decoded: 1.5 GB at 224 pixels. Those of larger ones are read at each use."""


class TestShard:
    """Images ``rank::world_size`` of a set, as in testing, indexable, without padding.

    ``shard[index]`` gives normalised images ``[n, 3, H, W]`` on ``device`` for a slice or an index tensor. Images are
    stored after resizing and cropping, as uint8 where the transform allows it: the parts of the transform that cost
    time run once, not once for each of the evaluations of a run.

    Attributes:
        labels: ``[n]`` class of each image of this shard.
        features: of all its images by a model that does not change, for a method that asks for them again and again.
    """

    features: Tensor | None = None
    __test__ = False  # the name is the field's, not pytest's

    def __init__(
        self,
        test_set: ImageSet,
        geometry: Callable[[Any], Tensor],
        normalize: Callable[[Tensor], Tensor],
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        limit: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        indices = range(rank, len(test_set) if limit is None else min(limit, len(test_set)), world_size)
        samples = Subset(Decoded(test_set, geometry), indices)
        batches = list(DataLoader(samples, batch_size=256, num_workers=num_workers, collate_fn=default_collate))
        if batches:
            self._images = torch.cat([images for images, _ in batches])
            self.labels = torch.cat([labels for _, labels in batches])
        else:
            self._images, self.labels = torch.empty(0), torch.empty(0, dtype=torch.long)
        self._normalize, self._device = normalize, device

    @classmethod
    def empty(cls) -> "TestShard":
        """A shard without images."""
        return cls([], torch.as_tensor, torch.as_tensor)

    @classmethod
    def of(
        cls, images: Tensor, labels: Tensor, normalize: Callable[[Tensor], Tensor], device: torch.device | str = "cpu"
    ) -> "TestShard":
        """A shard of images ``[n, 3, H, W]`` that are decoded already."""
        shard = cls([], torch.as_tensor, normalize, device=device)
        shard._images, shard.labels = images, labels
        return shard

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        return self._normalize(self._images[index].to(self._device))

    def sample(self, index: int) -> tuple[Tensor, int]:
        """One image ``[3, H, W]`` and its label."""
        return self[index : index + 1][0], int(self.labels[index])

    def batches(self, indices: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The chosen images and their labels, ``size`` at a time."""
        return ((self[part], self.labels[part]) for part in indices.split(size))


class LazyShard:
    """Images as in testing that are too many to be kept, with what ``TestShard`` offers: decoded at each use."""

    def __init__(
        self,
        images: ImageSet,
        geometry: Callable[[Any], Tensor],
        normalize: Callable[[Tensor], Tensor],
        num_workers: int = 0,
    ) -> None:
        self._decoded, self._normalize, self._num_workers = Decoded(images, geometry), normalize, num_workers

    def __len__(self) -> int:
        return len(self._decoded)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        indices = torch.arange(len(self))[index].tolist()
        return self._normalize(torch.stack([self._decoded[position][0] for position in indices]))

    def sample(self, index: int) -> tuple[Tensor, int]:
        image, label = self._decoded[index]
        return self._normalize(image[None])[0], label

    def batches(self, indices: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        chosen = Subset(self._decoded, indices.tolist())
        loader = DataLoader(chosen, batch_size=size, num_workers=self._num_workers, collate_fn=default_collate)
        return ((self._normalize(images), labels) for images, labels in loader)


ReplayImages: TypeAlias = TestShard | LazyShard


def replay_images(
    images: ImageSet, geometry: Callable[[Any], Tensor], normalize: Callable[[Tensor], Tensor], num_workers: int = 0
) -> ReplayImages:
    """A whole set, for all the steps of a task; decoded now if it can be kept."""
    if len(images) > KEPT_IMAGES:
        return LazyShard(images, geometry, normalize, num_workers)
    return TestShard(images, geometry, normalize, num_workers=num_workers)


class Decoded(Dataset[tuple[Tensor, int]]):
    """A set whose images went through the part of a transform that runs once."""

    def __init__(self, test_set: ImageSet, geometry: Callable[[Any], Tensor]) -> None:
        self.test_set, self.geometry = test_set, geometry

    def __len__(self) -> int:
        return len(self.test_set)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.test_set[index]
        return self.geometry(image), label
