"""Test images on disk as a model sees them: decoded, resized and cropped once, for all runs and any number of ranks."""

import contextlib
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import PIL
import torch
from lightning import Trainer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Subset, default_collate

from datamodules.base import Task
from datamodules.images.sets import UNREAD, ImageSet
from datamodules.ranks import in_step, on_first_rank
from datamodules.shard import Decoded
from datamodules.stream import Split
from gift_lightning.clip.describe import can_be_described, describe
from gift_lightning.errors import InputError

SCHEMA = 2
"""Version of the files; raised when the same key would stand for another content."""

KEPT_BYTES = 16 * 2**20
"""Sets up to this size are kept in memory, without a file: 111 images at 224 pixels, decoded in a second."""

ABANDONED_SECONDS = 3600.0
"""A half-written file that did not grow for so long belongs to a process that was killed."""

Geometry = Callable[[Any], Tensor]


def decoded_bytes(task: Task, geometry: Geometry) -> int:
    """Size of the file with the test images of ``task``, known before it is made; 0 if none is.

    None is made of few images (``KEPT_BYTES``), where ``geometry`` does not end in uint8, and where nothing tells it
    from another one.

    Args:
        task: set up.
        geometry: the part of a test transform that runs once on an image (``CLIP.test_geometry``).
    """
    image = geometry(Image.new("RGB", (8, 8)))
    size = _file_size(len(task.test_set), tuple(image.shape))
    return size if image.dtype == torch.uint8 and size > KEPT_BYTES and can_be_described(geometry) else 0


def decoded_images(
    trainer: Trainer,
    folder: Path,
    task: Task,
    geometry: Geometry,
    num_workers: int = 0,
    report: Callable[[str], None] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """All test images of ``task``, uint8 ``[n, 3, H, W]``, their labels ``[n]`` and their damage ``[n]``.

    Images are read from disk in use; damage is that of ``ImageFiles``, as it was found when they were decoded.

    The file is made if it is not there, by all ranks of the run together; all of them have to call this.

    Args:
        trainer: of the run.
        folder: where the files of all data sets are, the same one for all ranks.
        task: set up; ``decoded_bytes`` of it is not 0.
        geometry: see there.
        num_workers: processes that decode, for each rank.
        report: shows one line of text on how far it is.

    Raises:
        InputError: on all ranks, if an image does not decode or the file cannot be written or read.
    """
    # the first rank alone looks: a network file system may tell each machine something else for a while
    file = on_first_rank(trainer, lambda: DecodedFile.of(folder, task, geometry))
    if not on_first_rank(trainer, file.is_whole):
        for share in _make(trainer, file, Decoded(task.test_set, geometry), num_workers):
            if report is not None:
                report(f"Decoding test images of {task.name}: {share:.0%}")
    (content,) = in_step(trainer, (file.read() for _ in range(1)))
    return content


def _make(trainer: Trainer, file: "DecodedFile", images: Decoded, num_workers: int) -> Iterator[float]:
    """Make a file with all ranks; yields the share of this rank's part that is done."""
    temporary = on_first_rank(trainer, file.begin)
    split = Split.of_ranks(trainer)
    try:
        yield from in_step(trainer, file.fill(temporary, images, split, num_workers))
        on_first_rank(trainer, lambda: file.finish(temporary))
    except BaseException:
        if trainer.is_global_zero:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class DecodedFile:
    """Labels as int64, damage as uint8 and images as uint8, ``[n]``, ``[n]`` and ``[n, 3, H, W]``, one after the other.

    Its name changes with the data, the transform and the version of Pillow. A file of this name is whole: it is written
    under a temporary one.

    Attributes:
        path: of the file.
        count: of the images.
        shape: of an image.
    """

    path: Path
    count: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, folder: Path, task: Task, geometry: Geometry) -> "DecodedFile":
        """The file of a task's test set."""
        # two folders may hold other images under the same names: the fingerprint does not tell, but sizes and times do
        content = getattr(task.test_set, "content", None)
        facts = [SCHEMA, task.fingerprint, describe(geometry), PIL.__version__, content() if content else None]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        name = re.sub(r"[^\w.-]", "_", task.name)
        shape = tuple(geometry(Image.new("RGB", (8, 8))).shape)
        return cls(folder / f"{name}_{key}.uint8", len(task.test_set), shape)

    @property
    def bytes(self) -> int:
        return _file_size(self.count, self.shape)

    def is_whole(self) -> bool:
        """Whether it is there; removes what killed processes left beside it."""
        with contextlib.suppress(OSError):
            for left in self.path.parent.glob(".*.uint8.tmp"):
                if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
                    left.unlink(missing_ok=True)
        return self.path.is_file() and self.path.stat().st_size == self.bytes

    def begin(self) -> Path:
        """Make a file to be filled. Its name is its own: other runs may be making the same."""
        temporary = self.path.with_name(f".{self.path.stem}.{uuid4().hex[:12]}.uint8.tmp")
        with self._told():
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
            try:
                os.truncate(temporary, self.bytes)
            except OSError:
                temporary.unlink()
                raise
        return temporary

    def fill(self, temporary: Path, images: Decoded, split: Split, num_workers: int) -> Iterator[float]:
        """Decode and write this rank's part, a run of neighbours; yields the share of it that is done."""
        # not mapped into memory: on a full disk that kills the process, and on a network file system neighbouring
        # ranks would overwrite the page that their parts share
        start, end = (self.count * rank // split.world_size for rank in (split.rank, split.rank + 1))
        part = Subset(images, range(start, end))
        loader = DataLoader(part, batch_size=64, num_workers=num_workers, collate_fn=default_collate)
        with self._told():
            file = open(temporary, "r+b", buffering=0)  # noqa: SIM115 (closed below)
        with file:
            done = start
            for pixels, labels in loader:
                with self._told():
                    _write(file, 8 * done, labels)
                    _write(file, 8 * self.count + done, _damage(images.test_set, done, len(labels)))
                    _write(file, 9 * self.count + math.prod(self.shape) * done, pixels)
                done += len(labels)
                yield (done - start) / len(part)
            with self._told():
                os.fsync(file.fileno())

    def finish(self, temporary: Path) -> None:
        """Give the filled file its name."""
        with self._told():
            os.replace(temporary, self.path)

    def read(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images, read from disk when they are used, labels and damage."""
        try:
            content = torch.from_file(str(self.path), shared=False, size=self.bytes, dtype=torch.uint8)
        except RuntimeError as error:
            raise self._not_shared() from error
        labels, damage, images = content.split([8 * self.count, self.count, math.prod(self.shape) * self.count])
        return images.view(self.count, *self.shape), labels.view(torch.int64).clone(), damage.clone()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tells in one sentence that the file cannot be written."""
        try:
            yield
        except FileNotFoundError as error:
            raise self._not_shared() from error
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written: {error.strerror or error}. Make room for {self.bytes / 1e9:.2g} GB of"
                " decoded test images, name another folder as `data.cache`, or keep them in memory with null."
            ) from error

    def _not_shared(self) -> InputError:
        return InputError(
            f"{self.path.parent} is not the same folder on all machines of this run: name a `data.cache` that they"
            " share, or keep decoded test images in memory with null."
        )


def _write(file: FileIO, position: int, tensor: Tensor) -> None:
    file.seek(position)
    left = memoryview(tensor.numpy().tobytes())
    while left:
        left = left[file.write(left) :]


def _damage(samples: ImageSet, first: int, count: int) -> Tensor:
    """What a set knows of the damage of ``count`` images that were decoded."""
    known = getattr(samples, "damage", None)
    return torch.full((count,), UNREAD, dtype=torch.uint8) if known is None else known[first : first + count]


def _file_size(count: int, shape: tuple[int, ...]) -> int:
    return count * (8 + 1 + math.prod(shape))
