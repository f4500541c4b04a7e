"""Sets of labelled images: in files, or in memory."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence, Sized
from mmap import mmap
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from datamodules.images.decoding import REPLACE, jpeg_fault, read_image
from gift_lightning.errors import InputError

UNREAD, WHOLE, DAMAGED = 0, 1, 2
"""What is known of an image in a file: damaged are those that decode although their decoder found faults."""

Sample = tuple[str, int]  # path below a folder, label


class ImageSet(Sized, Protocol):
    """A map-style set of ``(PIL image, label)`` pairs; labels count from 0.

    Sets that know their labels without decoding an image have them as a list ``labels``.
    """

    def __getitem__(self, index: int) -> tuple[Any, int]: ...


class Listed(Protocol):
    """A set that can say of each image, without decoding it, where it comes from and its label."""

    @property
    def samples(self) -> Sequence[Sample]: ...


class ImageFiles(Dataset[tuple[Image.Image, int]]):
    """Images in files, decoded when they are asked for, upright and in RGB.

    Args:
        folder: where the paths start.
        samples: paths and labels.
        name: of the data set, for messages.
        remedy: what to do with an image that does not decode, for messages.

    Attributes:
        damage: ``[n]`` uint8, ``UNREAD``, ``WHOLE`` or ``DAMAGED`` for each image, found by whichever process.
    """

    def __init__(
        self,
        folder: Path,
        samples: Sequence[Sample],
        name: str | None = None,
        remedy: str = REPLACE,
    ) -> None:
        self.folder, self.samples, self.name, self.remedy = folder, samples, name, remedy
        # shared with the processes that load images; unlike share_memory_, this keeps no file open for each set
        memory = mmap(-1, max(1, len(samples)))
        self.damage = torch.frombuffer(memory, dtype=torch.uint8)[: len(samples)]

    @property
    def labels(self) -> list[int]:
        return [label for _, label in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path, label = self.samples[index]
        file = self.folder / path
        image = read_image(file, None if self.name is None else f"{self.name}, image {index}: {file}", self.remedy)
        if self.damage[index] == UNREAD:
            self.damage[index] = WHOLE if jpeg_fault(file) is None else DAMAGED
        return image, label

    def content(self) -> str:
        """Tells apart, by the sizes and times of the files, other images under the same names; none is opened.

        Raises:
            InputError: a file has disappeared.
        """
        try:
            states = [os.stat(self.folder / path) for path, _ in self.samples]
        except OSError as error:
            raise InputError(f"{error.filename} cannot be read: {error.strerror}.") from error
        # whole seconds: what copying keeps on any file system
        facts = [(state.st_size, int(state.st_mtime)) for state in states]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def sizes(self, indices: Iterable[int]) -> list[int]:
        """Bytes of the chosen files: other images under the same names have others.

        A copy has the same, on any file system; a file that has disappeared counts as -1.
        """
        return [_size(self.folder / self.samples[index][0]) for index in indices]


class ArrayImages(Dataset[tuple[Image.Image, int]]):
    """Images in memory, handed out in RGB.

    Args:
        images: uint8 ``[n, H, W]`` or ``[n, H, W, 3]``.
        labels: ``n`` of them.
        file: where they come from.
    """

    def __init__(self, images: np.ndarray, labels: list[int], file: str) -> None:
        self.images, self.labels, self.file = images, labels, file

    @property
    def samples(self) -> list[Sample]:
        return [(f"{self.file}/{index}", label) for index, label in enumerate(self.labels)]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]).convert("RGB"), self.labels[index]

    def content(self) -> str:
        """Hash of the images."""
        return hashlib.sha256(np.ascontiguousarray(self.images).data).hexdigest()


def _size(file: Path) -> int:
    try:
        return os.stat(file).st_size
    except OSError:
        return -1


def samples_hash(train: Listed, test: Listed) -> str:
    """Identifies the samples of a task and their order; no image is decoded."""
    return hashlib.sha256(json.dumps([train.samples, test.samples]).encode()).hexdigest()[:16]
