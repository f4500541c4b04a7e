"""Training in spite of images that do not decode: other images take their places."""

from typing import Any

import torch
from torch.utils.data import Dataset

from datamodules.images.sets import ImageSet
from datamodules.stream import Key
from gift_lightning.errors import ImageInputError
from gift_lightning.seeding import stream_seed

ATTEMPTS = 20
"""Images tried in the place of one that does not decode; if none of them does, the set counts as broken."""


class Substituted(Dataset[tuple[Any, int]]):
    """A training set in which another sample, always the same one, takes the place of one that does not decode.

    Args:
        samples: the set.
        key: with the index, it decides which sample that is, e.g. ``(seed, "substitute", task)``.

    Attributes:
        original: the set itself.
        bad: ``[n]`` uint8, 1 for each image that did not decode, in any process.

    Raises:
        ImageInputError: when an image is asked for that does not decode, nor do ``ATTEMPTS`` others.
    """

    def __init__(self, samples: ImageSet, key: Key) -> None:
        self.original, self._key = samples, key
        self.bad = torch.zeros(len(samples), dtype=torch.uint8).share_memory_()  # with the processes that load images

    def __len__(self) -> int:
        return len(self.original)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        tried, error = index, None
        for attempt in range(ATTEMPTS + 1):
            try:
                return self.original[tried]
            except ImageInputError as failure:
                error = error or failure
                self.bad[tried] = 1
                tried = stream_seed(*self._key, index, attempt) % len(self)
        assert error is not None
        raise error

    @property
    def bad_indices(self) -> list[int]:
        """Indices of the images that did not decode."""
        return self.bad.nonzero().flatten().tolist()

    def name(self, index: int) -> str:
        """The file of a sample, or its number if the set has no list of files."""
        samples = getattr(self.original, "samples", None)
        return f"image {index}" if samples is None else str(samples[index][0])
