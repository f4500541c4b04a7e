"""Loaders of one task, or one replay set, by itself: for a plain ``Trainer`` and any LightningModule."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, default_collate

from datamodules.images.sets import ImageSet
from datamodules.preprocessing import Preprocessing
from datamodules.shard import ResizedImages
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
    """Augmented training samples, by draws of an ``EpochSampler``; an index alone is a draw of the first epoch.

    The generators of the process, from which the user's model may draw, stay as they are.
    """

    def __getitem__(self, draw: tuple[int, int] | int) -> tuple[Any, int]:
        with isolate_rng(include_cuda=False):
            return super().__getitem__((draw, draw) if isinstance(draw, int) else draw)


class TextPairs(Dataset[tuple[Tensor, str]]):
    """Images ``[3, H, W]`` resized as in testing, each with its text, by draws of an ``EpochSampler`` or by index.

    Args:
        pairs: images, with the indices of their texts as labels.
        texts: the distinct texts.
        preprocessing: of the images.
    """

    def __init__(self, pairs: ImageSet, texts: Sequence[str], preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self._images, self._texts = ResizedImages(pairs, preprocessing.test_geometry), texts

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
    augmented = EpochSamples(samples, preprocessing.train_geometry, key)
    return _loader(augmented, preprocessing, batch_size, num_workers, EpochSampler(augmented, key, split))


def evaluation_loader(
    samples: ImageSet, preprocessing: Preprocessing, batch_size: int, num_workers: int
) -> DataLoader[tuple[Tensor, int]]:
    """Batches ``(images [b, 3, H, W], labels [b])`` with the test transform, in the order of the set."""
    return _loader(ResizedImages(samples, preprocessing.test_geometry), preprocessing, batch_size, num_workers)


def pair_loader(
    pairs: TextPairs, key: Key, batch_size: int, num_workers: int, split: Split
) -> DataLoader[tuple[Tensor, str]]:
    """Batches ``(images [b, 3, H, W], texts)``, the texts as a list of ``b``, shuffled in each epoch."""
    return _loader(pairs, pairs.preprocessing, batch_size, num_workers, EpochSampler(pairs, key, split))


def _loader(
    samples: Dataset[Any],
    preprocessing: Preprocessing,
    batch_size: int,
    num_workers: int,
    sampler: EpochSampler | None = None,
) -> DataLoader[Any]:
    collate = _Normalized(preprocessing.normalize)
    return DataLoader(samples, batch_size, sampler=sampler, num_workers=num_workers, collate_fn=collate)


@dataclass
class _Normalized:
    """Makes a batch of resized images, normalised together, and of labels or texts."""

    normalize: Callable[[Tensor], Tensor]

    def __call__(self, samples: Sequence[tuple[Tensor, Any]]) -> tuple[Tensor, Any]:
        images, labels = (default_collate([*part]) for part in zip(*samples, strict=True))
        return self.normalize(images), labels
