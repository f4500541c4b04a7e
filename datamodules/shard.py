"""Images decoded once and kept: one rank's part of a test set for all evaluations, a replay set for all its steps."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from datamodules.base import ImageSet


class TestShard:
    """Images ``rank::world_size`` of a set, as in testing, indexable, without padding.

    ``shard[index]`` gives normalised images ``[n, 3, H, W]`` on ``device`` for a slice or an index tensor. Images are
    stored after resizing and cropping, as uint8 where the transform allows it: the parts of the transform that cost
    time run once, not once for each of the evaluations of a run.

    Attributes:
        labels: ``[n]`` class of each image of this shard.
    """

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
        samples = Subset(_Decoded(test_set, geometry), indices)
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

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        return self._normalize(self._images[index].to(self._device))


class _Decoded(Dataset[tuple[Tensor, int]]):
    def __init__(self, test_set: ImageSet, geometry: Callable[[Any], Tensor]) -> None:
        self.test_set, self.geometry = test_set, geometry

    def __len__(self) -> int:
        return len(self.test_set)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.test_set[index]
        return self.geometry(image), label
