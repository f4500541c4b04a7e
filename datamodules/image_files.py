"""Sets of labelled images: in files, or in memory."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset

from datamodules.images import upright_rgb
from gift_lightning.errors import ImageInputError, InputError, first_line

Sample = tuple[str, int]  # path below a folder, label

_FILES_LOOKED_AT = 64
"""Of how many files of a set ``sizes`` tells, so that a large set on a network file system costs no time."""


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
    """

    def __init__(
        self,
        folder: Path,
        samples: Sequence[Sample],
        name: str | None = None,
        remedy: str = "replace it, or remove it before a run begins.",  # without it, the data set is another
    ) -> None:
        self.folder, self.samples, self.name, self.remedy = folder, samples, name, remedy

    @property
    def labels(self) -> list[int]:
        return [label for _, label in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        path, label = self.samples[index]
        which = f"{self.folder / path}" if self.name is None else f"{self.name}, image {index}: {self.folder / path}"
        try:
            with Image.open(self.folder / path) as image:
                return upright_rgb(image), label
        except FileNotFoundError:
            raise InputError(f"{which} has disappeared: restore it.") from None
        except UnidentifiedImageError:
            raise ImageInputError(f"{which} is not an image: {self.remedy}") from None
        except Exception as error:  # of many kinds: every format has its own
            # an error with a number is that of the disk or the network; those of Pillow have none
            if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
                raise InputError(f"{which} cannot be read: {first_line(error)}") from error
            raise ImageInputError(f"{which} cannot be decoded ({first_line(error)[:-1]}): {self.remedy}") from error

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

    def sizes(self) -> list[int]:
        """Bytes of some of the files, spread over all: other images under the same names have others.

        A copy has the same, on any file system; a file that has disappeared counts as -1.
        """
        chosen = self.samples[:: max(1, len(self.samples) // _FILES_LOOKED_AT)]
        paths = [self.folder / path for path, _ in chosen]
        return [path.stat().st_size if path.is_file() else -1 for path in paths]


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


def samples_hash(train: Listed, test: Listed) -> str:
    """Identifies the samples of a task and their order; no image is decoded."""
    return hashlib.sha256(json.dumps([train.samples, test.samples]).encode()).hexdigest()[:16]
