"""A cache on disk of test images, decoded, resized and cropped once for all runs and any number of ranks."""

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
from datamodules.shard import ResizedImages
from datamodules.stream import Split
from gift_lightning.clip.describe import can_be_described, describe
from gift_lightning.errors import InputError
from gift_lightning.files import reason

SCHEMA = 2
"""Version of the files; raised when the same key would stand for another content."""

LEAST_CACHED_BYTES = 16 * 2**20
"""Sets up to this size have no file: each run decodes them into memory (111 images at 224 pixels, a second)."""

ABANDONED_SECONDS = 3600.0
"""A half-written file that did not grow for so long belongs to a process that was killed."""

Geometry = Callable[[Any], Tensor]
"""The first part of a test transform (``CLIP.test_geometry``): PIL image to ``[3, H, W]``, run once on an image."""


def cache_bytes(task: Task, geometry: Geometry) -> int:
    """Size in bytes of the cache file with the test images of ``task``, before it is written; 0 for no file.

    There is no file for few images (``LEAST_CACHED_BYTES``), for a ``geometry`` that does not end in uint8, and for
    one that cannot be described (``gift_lightning.clip.describe``).

    Args:
        task: after ``setup``.
        geometry: the first part of the test transform.
    """
    image = geometry(Image.new("RGB", (8, 8)))
    size = _file_size(len(task.test_set), tuple(image.shape))
    return size if image.dtype == torch.uint8 and size > LEAST_CACHED_BYTES and can_be_described(geometry) else 0


def cached_images(
    trainer: Trainer,
    folder: Path,
    task: Task,
    geometry: Geometry,
    num_workers: int = 0,
    report: Callable[[str], None] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """All test images of ``task``, uint8 ``[n, 3, H, W]``, their labels int64 ``[n]`` and their damage uint8 ``[n]``.

    Images are read from disk in use. Damage is that of ``ImageFiles`` at the time of decoding. A missing file is
    written by all ranks of the run together: each of them has to call this.

    Args:
        trainer: of the run.
        folder: of the cache, the same for all ranks.
        task: after ``setup``; its ``cache_bytes`` are not 0.
        geometry: the first part of the test transform.
        num_workers: processes that decode, for each rank.
        report: shows one line of text on the progress.

    Raises:
        InputError: on all ranks, if an image does not decode or the file cannot be written or read.
    """
    # the first rank alone looks: a network file system may tell each machine something else for a while
    file = on_first_rank(trainer, lambda: CacheFile.of(folder, task, geometry))
    if not on_first_rank(trainer, file.is_whole):
        for share in _make(trainer, file, ResizedImages(task.test_set, geometry), num_workers):
            if report is not None:
                report(f"Decoding test images of {task.name}: {share:.0%}")
    (content,) = in_step(trainer, (file.read() for _ in range(1)))
    return content


def _make(trainer: Trainer, file: "CacheFile", images: ResizedImages, num_workers: int) -> Iterator[float]:
    """Write a file with all ranks; yields the finished share of this rank's images."""
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
class CacheFile:
    """Labels as int64, damage as uint8 and images as uint8, ``[n]``, ``[n]`` and ``[n, 3, H, W]``, one after the other.

    Its name changes with the data, the transform and the version of Pillow. A file of this name is whole: it is written
    under a temporary one.

    Attributes:
        path: of the file.
        count: number of images, n.
        shape: of an image, ``(3, H, W)``.
    """

    path: Path
    count: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, folder: Path, task: Task, geometry: Geometry) -> "CacheFile":
        """The file of a task's test set.

        Args:
            folder: of the cache.
            task: after ``setup``.
            geometry: the first part of the test transform.

        Raises:
            InputError: ``geometry`` cannot be described, or an image file has disappeared.
        """
        # two folders may hold different images under the same names: their fingerprints agree, sizes and times differ
        content = getattr(task.test_set, "content", None)
        facts = [SCHEMA, task.fingerprint, describe(geometry), PIL.__version__, content() if content else None]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        name = re.sub(r"[^\w.-]", "_", task.name)
        shape = tuple(geometry(Image.new("RGB", (8, 8))).shape)
        return cls(folder / f"{name}_{key}.uint8", len(task.test_set), shape)

    @property
    def bytes(self) -> int:
        """Size of the whole file."""
        return _file_size(self.count, self.shape)

    def is_whole(self) -> bool:
        """Whether the file exists in full length; removes abandoned temporary files beside it."""
        with contextlib.suppress(OSError):
            for leftover in self.path.parent.glob(".*.uint8.tmp"):
                if time.time() - leftover.stat().st_mtime > ABANDONED_SECONDS:
                    leftover.unlink(missing_ok=True)
        return self.path.is_file() and self.path.stat().st_size == self.bytes

    def begin(self) -> Path:
        """Create a temporary file of full length, under a unique name: other runs may be writing the same one.

        Raises:
            InputError: it cannot be written.
        """
        temporary = self.path.with_name(f".{self.path.stem}.{uuid4().hex[:12]}.uint8.tmp")
        with self._write_errors():
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
            try:
                os.truncate(temporary, self.bytes)
            except OSError:
                temporary.unlink()
                raise
        return temporary

    def fill(self, temporary: Path, images: ResizedImages, split: Split, num_workers: int) -> Iterator[float]:
        """Decode and write this rank's images, a range of the set; yields the finished share of them.

        Args:
            temporary: the file of ``begin``.
            images: uint8 ``[3, H, W]`` each, and labels.
            split: rank and number of ranks.
            num_workers: processes that decode.

        Raises:
            InputError: an image does not decode, or the file cannot be written.
        """
        # not mapped into memory: on a full disk that kills the process, and on a network file system neighbouring
        # ranks would overwrite the page that both write to
        start, end = (self.count * rank // split.world_size for rank in (split.rank, split.rank + 1))
        part = Subset(images, range(start, end))
        loader = DataLoader(part, batch_size=64, num_workers=num_workers, collate_fn=default_collate)
        with self._write_errors():
            file = open(temporary, "r+b", buffering=0)  # noqa: SIM115 (closed below)
        with file:
            done = start
            for pixels, labels in loader:
                with self._write_errors():
                    _write(file, 8 * done, labels)
                    _write(file, 8 * self.count + done, _damage(images.images, done, len(labels)))
                    _write(file, 9 * self.count + math.prod(self.shape) * done, pixels)
                done += len(labels)
                yield (done - start) / len(part)
            with self._write_errors():
                os.fsync(file.fileno())

    def finish(self, temporary: Path) -> None:
        """Rename the filled temporary file to ``path``.

        Raises:
            InputError: it cannot be renamed.
        """
        with self._write_errors():
            os.replace(temporary, self.path)

    def read(self) -> tuple[Tensor, Tensor, Tensor]:
        """Images uint8 ``[n, 3, H, W]``, read from disk in use, labels int64 ``[n]`` and damage uint8 ``[n]``.

        Raises:
            InputError: another machine of the run does not see the file.
        """
        try:
            content = torch.from_file(str(self.path), shared=False, size=self.bytes, dtype=torch.uint8)
        except RuntimeError as error:
            raise self._not_shared() from error
        labels, damage, images = content.split([8 * self.count, self.count, math.prod(self.shape) * self.count])
        return images.view(self.count, *self.shape), labels.view(torch.int64).clone(), damage.clone()

    @contextlib.contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Turn an ``OSError`` of writing into an ``InputError``."""
        try:
            yield
        except FileNotFoundError as error:
            raise self._not_shared() from error
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written: {reason(self.path, error)}. Make room for {self.bytes / 1e9:.2g} GB of"
                " decoded test images, name another folder as `data.cache`, or keep them in memory with null."
            ) from error

    def _not_shared(self) -> InputError:
        return InputError(
            f"{self.path.parent} is not the same folder on all machines of this run: name a `data.cache` that they"
            " share, or keep decoded test images in memory with null."
        )


def _write(file: FileIO, position: int, tensor: Tensor) -> None:
    file.seek(position)
    rest = memoryview(tensor.numpy().tobytes())
    while rest:
        rest = rest[file.write(rest) :]


def _damage(samples: ImageSet, first: int, count: int) -> Tensor:
    """The damage of ``count`` images after decoding; ``UNREAD`` for a set without such a record."""
    damage = getattr(samples, "damage", None)
    return torch.full((count,), UNREAD, dtype=torch.uint8) if damage is None else damage[first : first + count]


def _file_size(count: int, shape: tuple[int, ...]) -> int:
    return count * (8 + 1 + math.prod(shape))
