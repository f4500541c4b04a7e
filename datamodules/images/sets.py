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
"""Values of ``ImageFiles.damage``. A damaged image is one that decodes with a warning of its decoder."""

Sample = tuple[str, int]  # path below a folder, label


class ImageSet(Sized, Protocol):
    """A map-style set of ``(PIL image, label)`` pairs; labels count from 0.

    Sets that know their labels without decoding an image have them as a list ``labels``.
    """

    def __getitem__(self, index: int) -> tuple[Any, int]: ...


class Listed(Protocol):
    """A set with the path and label of each image, without decoding."""

    @property
    def samples(self) -> Sequence[Sample]:
        """Path and label of each image."""


class ImageFiles(Dataset[tuple[Image.Image, int]]):
    """Images in files, decoded at access, upright and in RGB: ``(PIL image, label)`` pairs.

    Args:
        folder: the start of the paths.
        samples: paths and labels.
        name: of the data set, for messages.
        remedy: advice in the message about an image that does not decode.

    Attributes:
        damage: uint8 ``[n]``, ``UNREAD``, ``WHOLE`` or ``DAMAGED`` for each image; all processes of a loader write it.

    Raises:
        InputError: at access, a file is missing or an image does not decode.
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
        """The label of each image."""
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
        """Hash of the sizes and times of the files, which differ for other images under the same names.

        Raises:
            InputError: a file has disappeared.
        """
        try:
            states = [os.stat(self.folder / path) for path, _ in self.samples]
        except OSError as error:
            raise InputError(f"{error.filename} cannot be read: {error.strerror}.") from error
        # whole seconds: copying preserves them on any file system
        facts = [(state.st_size, int(state.st_mtime)) for state in states]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def sizes(self, indices: Iterable[int]) -> list[int]:
        """Bytes of the chosen files; -1 for a missing one. A copy has the same sizes on any file system."""
        return [_size(self.folder / self.samples[index][0]) for index in indices]


class ArrayImages(Dataset[tuple[Image.Image, int]]):
    """Images in memory: ``(PIL image in RGB, label)`` pairs.

    Args:
        images: uint8 ``[n, H, W]`` or ``[n, H, W, 3]``.
        labels: of the n images.
        file: the file of the images, for their paths in ``samples``.

    Raises:
        InputError: there are not as many labels as images.
    """

    def __init__(self, images: np.ndarray, labels: list[int], file: str) -> None:
        if len(images) != len(labels):
            raise InputError(f"There are {len(images)} images in {file} and {len(labels)} labels: give one for each.")
        self.images, self.labels, self.file = images, labels, file

    @property
    def samples(self) -> list[Sample]:
        """``(<file>/<index>, label)`` of each image."""
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
    """Hash of the paths and labels of a task, 16 hexadecimal digits; no image is decoded."""
    return hashlib.sha256(json.dumps([train.samples, test.samples]).encode()).hexdigest()[:16]
