"""The content of a folder: images, class folders, and other files."""

import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from gift_lightning.errors import InputError

_NO_PICTURES = {"BUFR", "CUR", "EPS", "FITS", "FLI", "GRIB", "HDF5", "ICNS", "ICO", "IPTC", "MPEG", "PDF", "WMF"}
"""Formats of Pillow that are documents, films, measurements, drawings, or icons of folders."""

_SYSTEM_NAMES = {
    *("@eadir", "#recycle", "#snapshot", "@recycle", "@__thumb"),  # network storage: thumbnails, bins
    *("__macosx", "icon\r"),
    *("$recycle.bin", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),
    "lost+found",
}
"""Files and folders, in lower case, that systems leave in the folders of their users."""


class Skipped(NamedTuple):
    """A file that is not taken as an image."""

    path: str
    kind: str
    """Its suffix, or another reason: a key of ``_REASONS``."""


class Listing(NamedTuple):
    """The files below a folder, by paths relative to it, sorted as text."""

    images: list[str]
    skipped: list[Skipped]

    def below(self, folder: str) -> "Listing":
        """The same listing with ``folder`` before each path."""
        return Listing(
            [f"{folder}/{path}" for path in self.images],
            [Skipped(f"{folder}/{path}", kind) for path, kind in self.skipped],
        )


@cache
def image_suffixes() -> frozenset[str]:
    """The suffixes, as ``.jpg``, of all image formats that the installed Pillow reads, in lower case."""
    Image.init()
    formats = {suffix: name for suffix, name in Image.registered_extensions().items() if name not in _NO_PICTURES}
    # .mpo is opened as the JPEG that it begins with; .pfm holds numbers of 32 bits
    return frozenset(suffix for suffix, name in formats.items() if name in {*Image.OPEN, "MPO"}) - {".pfm"}


def list_images(folder: Path) -> Listing:
    """The files below ``folder``, at any depth: images by their suffix, and skipped files.

    Hidden files and folders, and those of operating systems (``@eaDir``, ``Thumbs.db``), are in neither list. Links to
    files are followed, links to folders are skipped: they may lead in circles. No file is opened and only links are
    resolved, so that a million files take seconds.

    Raises:
        InputError: a folder cannot be read.
    """
    images: list[str] = []
    skipped: list[Skipped] = []
    pending = [""]
    while pending:
        above = pending.pop()
        for entry in _entries(folder / above):
            path = above + entry.name
            if entry.is_dir(follow_symlinks=False):
                pending.append(f"{path}/")
            elif kind := _reason_to_skip(entry):
                skipped.append(Skipped(path, kind))
            else:
                images.append(path)
    return Listing(sorted(images), sorted(skipped))


def image_paths(folder: Path) -> list[str]:
    """Paths below ``folder``, at any depth, of the files with the suffix of an image: see ``list_images``.

    Raises:
        InputError: a folder cannot be read.
    """
    return list_images(folder).images


def class_folders(folder: Path) -> list[str]:
    """Names of the folders, and links to folders, in ``folder``, sorted; without hidden ones and those of systems.

    Raises:
        InputError: ``folder`` cannot be read.
    """
    return sorted(entry.name for entry in _entries(folder) if _is_folder(entry))


def images_beside(folder: Path) -> list[str]:
    """Names of the images directly in ``folder``, sorted.

    Raises:
        InputError: ``folder`` cannot be read.
    """
    return sorted(entry.name for entry in _entries(folder) if not _is_folder(entry) and not _reason_to_skip(entry))


def broken_links(folder: Path) -> list[str]:
    """Names of the links directly in ``folder`` that lead to nothing, sorted.

    Raises:
        InputError: ``folder`` cannot be read.
    """
    return sorted(entry.name for entry in _entries(folder) if entry.is_symlink() and not os.path.exists(entry.path))


def note_of_skipped(skipped: Sequence[Skipped], where: str, folder: Path) -> list[str]:
    """A sentence on the skipped files; empty without any.

    Args:
        skipped: these files.
        where: the beginning of the sentence, as ``Task 'birds'``.
        folder: the start of their paths.
    """
    if not skipped:
        return []
    kinds = Counter(kind for _, kind in skipped).most_common()
    counts = ", ".join(f"{count} {kind if count == 1 else _REASONS.get(kind, kind)}" for kind, count in kinds[:_MOST])
    others = sum(count for _, count in kinds[_MOST:])
    more = f" and {others} other{'s' * (others > 1)}" if others else ""
    one = len(skipped) == 1
    files = "1 file is not taken as an image" if one else f"{len(skipped)} files are not taken as images"
    if not all(kind in _REASONS for kind, _ in kinds):
        files += ", by the end of its name" if one else ", by the end of their names"
    return [f"{where}: {files}: {counts}{more}; the first one is {folder / skipped[0].path}."]


_MOST = 6  # kinds of files that a sentence counts

_REASONS = {
    "link to a folder": "links to folders",
    "link to nothing": "links to nothing",
    "pipe or device": "pipes or devices",
}
"""Reasons to skip a file beside its suffix: for one file, and for several."""


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not _is_hidden(entry.name)]
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read: {error.strerror}.") from error


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    # os.path handles links in a circle, entry.is_dir raises
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir(follow_symlinks=False)


def _reason_to_skip(entry: "os.DirEntry[str]") -> str:
    """The reason to skip an entry that is no folder: see ``Skipped.kind``; empty for an image."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if entry.is_symlink() and not os.path.isfile(entry.path):
        if os.path.isdir(entry.path):
            return "link to a folder"
        return "pipe or device" if os.path.exists(entry.path) else "link to nothing"
    if not entry.is_symlink() and not entry.is_file(follow_symlinks=False):
        return "pipe or device"
    return "" if suffix in image_suffixes() else suffix or "without a suffix"
