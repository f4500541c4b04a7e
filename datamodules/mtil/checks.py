"""Checks of a data set on disk by the listings of its folders: no image is opened, no file size is read."""

import fnmatch
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from datamodules.images.sets import Sample
from gift_lightning.errors import first_line
from gift_lightning.sources import Status

_DEPTH = 3  # of the search for a data set that lies elsewhere


class DataError(Exception):
    """A fault of a data set on disk, in one sentence.

    Attributes:
        status: for the ``Inspection``.
        counts: training and test images on disk; ``None`` if not counted.
    """

    def __init__(self, status: Status, sentence: str, counts: tuple[int, int] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.counts = status, counts


def check_place(root: Path, folder: str, markers: Sequence[str], lookalikes: Sequence[str] = ()) -> None:
    """Check that the data set lies in ``root / folder``.

    Args:
        root: the folder of all data sets.
        folder: of this data set, below ``root``.
        markers: files, and folders with a slash at the end, that identify the data set in any folder.
        lookalikes: folders of another data set with the same markers.

    Raises:
        DataError: the folder does not exist, or the data set lies in another one.
    """
    wanted = root / folder
    if _has(wanted, markers):
        return
    for other in _folders(root, _DEPTH):
        if _has(other, markers) and not set(lookalikes) & set(other.parts):
            raise DataError("wrong layout", f"The data set lies in {other} and has to lie in {wanted}: move it.")
    if not wanted.is_dir():
        raise DataError("missing", f"{wanted} does not exist.")


def check_label_file(path: Path, lists: str, expected: int | None) -> None:
    """Check that a label file is whole.

    Args:
        path: lines of text, JSON with lists, or MATLAB arrays, of which the longest counts.
        lists: plural noun of its entries, for messages.
        expected: its length; ``None`` if it only needs to be readable.

    Raises:
        DataError: the file is missing, damaged, or of another length.
    """
    if not path.is_file():  # first: scipy raises something else for a missing .mat
        raise DataError("incomplete", f"{path} is missing: unpack its archive again.")
    try:
        length = _length(path)
    except Exception as error:  # a damaged .mat raises any exception
        raise DataError("incomplete", f"{path} is damaged ({first_line(error)[:-1]}): unpack it again.") from error
    if expected is not None and length != expected:
        raise DataError("incomplete", f"{path} lists {length} {lists}, not {expected}: unpack its archive again.")


def check_image_folders(folder: Path, names: Sequence[str]) -> None:
    """Check that the image folders of a data set exist.

    Args:
        folder: of the data set.
        names: of its image folders, below ``folder``.

    Raises:
        DataError: one is missing, or images lie elsewhere.
    """
    for name in names:
        if not (folder / name).is_dir():
            _check_elsewhere(folder, set(names), f"{name}/*.jpg")
            raise DataError("incomplete", f"{folder / name} does not exist: unpack its archive again.")


def check_listed(folder: Path, train: Sequence[Sample], test: Sequence[Sample]) -> None:
    """Check that all listed images exist.

    Args:
        folder: the start of the samples' paths.
        train: training images as the label files list them.
        test: test images, likewise.

    Raises:
        DataError: some are missing, or lie elsewhere.
    """
    lists = [[path for path, _ in samples] for samples in (train, test)]
    parents = {os.path.dirname(path) for paths in lists for path in paths}
    on_disk = {f"{parent}/{name}" for parent in parents for name in _names(folder / parent)}
    missing = [[path for path in paths if path not in on_disk] for paths in lists]
    for lost, paths in zip(missing, lists, strict=True):
        if lost and len(lost) == len(paths):
            _check_elsewhere(folder, parents, lost[0])
    first = [*missing[0], *missing[1]][:1]
    if first:
        counts = (len(train) - len(missing[0]), len(test) - len(missing[1]))
        sentence = _lacking(sum(map(len, missing)), sum(map(len, lists)), folder, folder / first[0])
        raise DataError("incomplete", sentence, counts)


def check_total(folder: Path, paths: Sequence[str], expected: int, counts: tuple[int, int]) -> None:
    """Check the number of images of a data set without label files.

    Args:
        folder: the start of the paths.
        paths: of all images on disk, sorted.
        expected: number of images of the whole data set.
        counts: training and test images on disk, for the ``DataError``.

    Raises:
        DataError: there are fewer or more images.
    """
    if len(paths) < expected:
        gap = _gap(paths)
        sentence = _lacking(expected - len(paths), expected, folder, folder / gap if gap else None)
        raise DataError("incomplete", sentence, counts)
    if len(paths) > expected:
        raise DataError(
            "wrong layout",
            f"{folder} holds {len(paths)} images, not {expected}: remove those that are not of the data set.",
            counts,
        )


def _lacking(missing: int, total: int, folder: Path, first: Path | None) -> str:
    remedy = "unpack the archive again."
    if first is None:
        return f"{folder} lacks {missing} of {total} images: {remedy}"
    if missing == 1:
        return f"{first} is missing: {remedy}"
    return f"{missing} of {total} images are missing, the first of them {first}: {remedy}"


def _check_elsewhere(folder: Path, parents: set[str], lost: str) -> None:
    """Raise a ``DataError`` if images missing from their folder (``lost``: one path, or a pattern) lie elsewhere."""
    wanted, name = (folder / lost).parent, os.path.basename(lost)
    for other in _folders(folder, _DEPTH):
        if other.relative_to(folder).as_posix() not in parents and fnmatch.filter(_names(other), name):
            raise DataError("wrong layout", f"Images lie in {other} and have to lie in {wanted}: move them.")


def _has(folder: Path, markers: Sequence[str]) -> bool:
    return all((os.path.isdir if name.endswith("/") else os.path.isfile)(folder / name) for name in markers)


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """``folder`` and the folders below it, without hidden ones."""
    yield folder
    if depth:
        try:
            with os.scandir(folder) as entries:
                below = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
        except OSError:  # missing, or unreadable
            return
        for name in below:
            yield from _folders(folder / name, depth - 1)


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _length(path: Path) -> int:
    if path.suffix == ".mat":
        from scipy.io import loadmat  # takes long to import, and few need it

        return max(array.size for name, array in loadmat(path).items() if not name.startswith("__"))
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return sum(map(len, json.loads(text).values()))
    return sum(1 for line in text.splitlines() if line.strip())


def _gap(paths: Sequence[str]) -> str | None:
    """The first path missing from a row of numbered ones; ``None`` without a gap.

    >>> _gap(["a/1.jpg", "a/2.jpg", "b/7.jpg", "b/9.jpg", "c/x.jpg"])
    'b/8.jpg'
    """
    rows: dict[tuple[str, str], dict[int, int]] = {}  # numbers, and the count of their digits
    for path in paths:
        match = re.fullmatch(r"(.*?)(\d+)(\.\w+)", path)
        if match:
            rows.setdefault((match[1], match[3]), {})[int(match[2])] = len(match[2])
    for (stem, suffix), numbers in rows.items():
        for number in range(min(numbers), max(numbers)):
            if number not in numbers:
                return f"{stem}{number:0{min(numbers.values())}d}{suffix}"
    return None
