"""Resized images in memory: one rank's part of a test set for all evaluations, a replay set for all its steps."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from datamodules.images.sets import ImageSet

MOST_IN_MEMORY = 2**31
"""Bytes of the largest replay set that is in memory: 14 000 images at 224 pixels, 6 300 at 336. Images of a larger one
are read at each use."""


class TestShard:
    """Images ``rank::world_size`` of a set, as in testing, indexable, without padding.

    ``shard[index]`` gives normalised images ``[n, 3, H, W]`` on ``device`` for a slice or an index tensor. Images are
    stored after resizing and cropping, as uint8 where the transform allows it: the slow part of the transform runs
    once in a run, not once in each evaluation. They are in the memory of the host, until ``to_device``.

    Args:
        test_set: the images of all ranks.
        geometry: the first part of the test transform (``CLIP.test_geometry``), run once on each image.
        normalize: its second part (``CLIP.normalize``), run on ``[n, 3, H, W]`` at each use.
        rank: of this process.
        world_size: number of ranks.
        num_workers: processes that decode.
        limit: number of images from the start of the set, of all ranks together; ``None`` for all.
        device: of the images that ``shard[index]`` returns.

    Attributes:
        labels: ``[n]``, the class of each image of this shard.
        features: ``[n, D]`` of all its images by a frozen model, for a method that needs them at each evaluation.

    Raises:
        InputError: an image does not decode.
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
        samples = Subset(ResizedImages(test_set, geometry), indices)
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
        """A shard of resized images ``[n, 3, H, W]`` with labels ``[n]``."""
        shard = cls([], torch.as_tensor, normalize, device=device)
        shard._images, shard.labels = images, labels
        return shard

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        images, device = self._images[index], torch.device(self._device)
        if device.type != "cuda" or images.is_cuda:
            return self._normalize(images.to(device))
        # while the device computes one batch, the next is on its way
        return self._normalize(images.pin_memory().to(device, non_blocking=True))

    def to_device(self) -> "TestShard":
        """Move the stored images to the device: those of a replay set, which every step reads. Returns the shard."""
        self._images = self._images.to(self._device)
        return self

    def to_send(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """What a loader sends of the images ``index`` ``[n]``, here their numbers, and their labels ``[n]``."""
        return index, self.labels[index]

    def received(self, sent: Tensor) -> Tensor:
        """Normalised images ``[n, 3, H, W]`` from what the loader has sent, after its transfer to the device."""
        return self[sent]

    def batches(self, indices: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images ``[size, 3, H, W]`` and labels ``[size]`` of ``indices``, ``size`` at a time."""
        return ((self[part], self.labels[part]) for part in indices.split(size))


class LazyShard:
    """Images as in testing of a set too large for memory: decoded at each use, with the interface of ``TestShard``.

    Args:
        images, geometry, normalize, num_workers, device: as those of ``TestShard``.
    """

    def __init__(
        self,
        images: ImageSet,
        geometry: Callable[[Any], Tensor],
        normalize: Callable[[Tensor], Tensor],
        num_workers: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._resized, self._normalize = ResizedImages(images, geometry), normalize
        self._num_workers, self._device = num_workers, device

    def __len__(self) -> int:
        return len(self._resized)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        return self.received(self.to_send(torch.arange(len(self))[index])[0].to(self._device))

    def to_send(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """What a loader sends of the images ``index`` ``[n]``, here ``[n, 3, H, W]``, and their labels ``[n]``."""
        images, labels = default_collate([self._resized[position] for position in index.tolist()])
        return images, labels

    def received(self, sent: Tensor) -> Tensor:
        """Normalised images ``[n, 3, H, W]`` from what the loader has sent, after its transfer to the device."""
        return self._normalize(sent)

    def batches(self, indices: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images ``[size, 3, H, W]`` and labels ``[size]`` of ``indices``, ``size`` at a time."""
        chosen = Subset(self._resized, indices.tolist())
        loader = DataLoader(chosen, batch_size=size, num_workers=self._num_workers, collate_fn=default_collate)
        return ((self._normalize(images.to(self._device)), labels) for images, labels in loader)


ReplayImages: TypeAlias = TestShard | LazyShard
"""The images of a replay set, resized: in memory, or read at each use."""


def replay_images(
    images: ImageSet,
    geometry: Callable[[Any], Tensor],
    normalize: Callable[[Tensor], Tensor],
    num_workers: int = 0,
    device: torch.device | str = "cpu",
) -> ReplayImages:
    """A whole set for all the steps of a task, in the memory of the device if it has at most ``MOST_IN_MEMORY`` bytes.

    Args:
        images, geometry, normalize, num_workers, device: as those of ``TestShard``.
    """
    if len(images) and len(images) * geometry(images[0][0]).nbytes > MOST_IN_MEMORY:
        return LazyShard(images, geometry, normalize, num_workers, device)
    return TestShard(images, geometry, normalize, num_workers=num_workers, device=device).to_device()


class ReplayBatch(NamedTuple):
    """Image-text pairs of a replay set: the part of a rank in one step.

    Attributes:
        images: normalised ``[b, 3, H, W]``.
        text_index: of each pair's text, in the texts of the replay set ``[b]``; -1 for an image without a text.
        pair_index: of each pair, in the replay set ``[b]``.
        distinct_texts: the values of ``text_index``, each once, ascending ``[k]``.
        text_row: of each pair's text in ``distinct_texts`` ``[b]``.
    """

    images: Tensor
    text_index: Tensor
    pair_index: Tensor
    distinct_texts: Tensor
    text_row: Tensor

    @classmethod
    def of(cls, images: ReplayImages, pair_index: Tensor) -> "ReplayBatch":
        """Pairs of a set by their index ``[b]``, as a loader sends them, see ``loaded``.

        It runs on the CPU: on a GPU, to find the texts that differ would wait for the device.
        """
        sent, text_index = images.to_send(pair_index)
        return cls(sent, text_index, pair_index, *text_index.unique(return_inverse=True))

    def received(self, images: ReplayImages) -> "ReplayBatch":
        """The batch that a loader has sent of a set, after its transfer to the device, with its normalised images."""
        return self._replace(images=images.received(self.images))


class ResizedImages(Dataset[tuple[Tensor, int]]):
    """The images of a set after the first part of a transform, which resizes and crops: ``(image, label)`` pairs.

    Args:
        images: the set.
        geometry: the first part of the transform (``CLIP.test_geometry``), PIL image to ``[3, H, W]``, mostly uint8.
    """

    def __init__(self, images: ImageSet, geometry: Callable[[Any], Tensor]) -> None:
        self.images, self.geometry = images, geometry

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        return self.geometry(image), label
