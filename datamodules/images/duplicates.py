"""Images that are there twice, byte for byte."""

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from gift_lightning.files import file_hash

_HEAD = 4096  # bytes, by which most files of one size differ


def equal_files(files: Sequence[Path]) -> list[list[int]]:
    """Groups of files with the same content, by their places in ``files``; empty and unreadable ones are in none.

    Only files of one size are opened, and only those read whole that begin in the same way.
    """
    groups = [list(range(len(files)))]
    for key in (_size, _head, _content):
        groups = [part for group in groups for part in _parts(files, group, key)]
    return sorted(groups)


def _parts(files: Sequence[Path], group: Sequence[int], key: Callable[[Path], object]) -> list[list[int]]:
    parts: dict[object, list[int]] = {}
    for index in group:
        with contextlib.suppress(OSError):
            parts.setdefault(key(files[index]), []).append(index)
    return [part for value, part in parts.items() if value and len(part) > 1]


def _size(file: Path) -> int:
    return os.stat(file).st_size


def _head(file: Path) -> bytes:
    with open(file, "rb") as opened:
        return opened.read(_HEAD)


def _content(file: Path) -> str:
    return file_hash(file, "sha256")
