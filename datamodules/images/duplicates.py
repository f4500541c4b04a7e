"""Files with the same bytes."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from gift_lightning.files import file_hash

_HEAD = 4096  # bytes, by which most files of one size differ


def equal_files(files: Sequence[Path]) -> list[list[int]]:
    """Groups of files with the same content, as indices into ``files``; without empty and unreadable files.

    Only files of equal size are opened, and only those with equal beginnings are read whole.
    """
    groups = [list(range(len(files)))]
    for key in (_size, _head, _content):
        groups = [smaller for group in groups for smaller in _divided(files, group, key)]
    return sorted(groups)


def _divided(files: Sequence[Path], group: Sequence[int], key: Callable[[Path], object]) -> list[list[int]]:
    """A group divided by the value of ``key``, without groups of one."""
    groups: dict[object, list[int]] = {}
    for index in group:
        with contextlib.suppress(OSError):
            groups.setdefault(key(files[index]), []).append(index)
    return [indices for value, indices in groups.items() if value and len(indices) > 1]


def _size(file: Path) -> int:
    return os.stat(file).st_size


def _head(file: Path) -> bytes:
    with open(file, "rb") as opened:
        return opened.read(_HEAD)


def _content(file: Path) -> str:
    return file_hash(file, "sha256")
