"""Loaders of one task, or one replay set, by itself: for a plain ``Trainer`` and any LightningModule."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from datamodules.images.sets import ImageSet
from datamodules.preprocessing import Preprocessing
from datamodules.stream import Key, SeededSamples, Split, shuffled


class EpochSampler(DistributedSampler[Any]):
    """This rank's draws of an epoch, as ``(sample index, number of the draw)``; ``set_epoch`` sets the epoch.

    Order and numbers are a function of key, epoch and sample. Each sample is drawn once in an epoch, by one of the
    ranks; the first ones of the order again where the samples do not divide among ranks. ``Trainer`` calls
    ``set_epoch``, and leaves a ``DistributedSampler`` as it is.

    Args:
        samples: the set.
        key: of the stream.
        split: this rank's part.
    """

    def __init__(self, samples: Dataset[Any], key: Key, split: Split) -> None:
        super().__init__(samples, num_replicas=split.world_size, rank=split.rank)
        self.key = key

    def __iter__(self) -> Iterator[tuple[int, int]]:
        size: int = len(self.dataset)  # type: ignore[arg-type]
        order = shuffled(self.key, self.epoch, size)
        indices = (order[place % size] for place in range(self.rank, self.total_size, self.num_replicas))
        return ((index, self.epoch * size + index) for index in indices)


class EpochSamples(SeededSamples):
    """Transformed training samples, by draws of an ``EpochSampler``; an index alone is a draw of the first epoch.

    The generators of the process, from which the user's model may draw, stay as they are.
    """

    def __getitem__(self, draw: tuple[int, int] | int) -> tuple[Any, int]:
        with isolate_rng(include_cuda=torch.cuda.is_initialized()):
            return super().__getitem__((draw, draw) if isinstance(draw, int) else draw)


class TestSamples(Dataset[tuple[Tensor, int]]):
    """Samples with the test transform: normalised images ``[3, H, W]`` and labels, by index."""

    __test__ = False  # the name is the field's, not pytest's

    def __init__(self, samples: ImageSet, preprocessing: Preprocessing) -> None:
        self.samples, self.preprocessing = samples, preprocessing

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.samples[index]
        return self.preprocessing.normalize(self.preprocessing.test_geometry(image)[None])[0], label


class TextPairs(Dataset[tuple[Tensor, str]]):
    """Images ``[3, H, W]`` as in testing, each with its text, by draws of an ``EpochSampler`` or by index.

    Args:
        pairs: images, with the indices of their texts as labels.
        texts: the distinct texts.
        preprocessing: of the images.
    """

    def __init__(self, pairs: ImageSet, texts: Sequence[str], preprocessing: Preprocessing) -> None:
        self._images, self._texts = TestSamples(pairs, preprocessing), texts

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, draw: tuple[int, int] | int) -> tuple[Tensor, str]:
        image, label = self._images[draw if isinstance(draw, int) else draw[0]]
        return image, self._texts[label]


def train_loader(
    samples: ImageSet,
    preprocessing: Preprocessing,
    key: Key,
    batch_size: int,
    num_workers: int,
    split: Split,
) -> DataLoader[Any]:
    """Batches ``(images [b, 3, H, W], labels [b])`` with augmentation, shuffled in each epoch; see ``EpochSampler``."""
    augmented = EpochSamples(samples, preprocessing.train_transform, key)
    return DataLoader(augmented, batch_size, sampler=EpochSampler(augmented, key, split), num_workers=num_workers)


def evaluation_loader(
    samples: ImageSet, preprocessing: Preprocessing, batch_size: int, num_workers: int
) -> DataLoader[tuple[Tensor, int]]:
    """Batches ``(images [b, 3, H, W], labels [b])`` with the test transform, in the order of the set."""
    return DataLoader(TestSamples(samples, preprocessing), batch_size, num_workers=num_workers)


def pair_loader(
    pairs: TextPairs, key: Key, batch_size: int, num_workers: int, split: Split
) -> DataLoader[tuple[Tensor, str]]:
    """Batches ``(images [b, 3, H, W], texts)``, the texts as a list of ``b``, shuffled in each epoch."""
    sampler = EpochSampler(pairs, key, split)
    return DataLoader(pairs, batch_size, sampler=sampler, num_workers=num_workers, collate_fn=_collated)


def _collated(pairs: Sequence[tuple[Tensor, str]]) -> tuple[Tensor, list[str]]:
    return torch.stack([image for image, _ in pairs]), [text for _, text in pairs]
