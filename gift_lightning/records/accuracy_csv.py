"""The accuracy matrix as CSV, in the layout of the published matrices.

::

    after_task,Aircraft,Caltech101
    Aircraft,62.6163,67.1083
    Caltech101,15.6916,93.3756

One row per learned task, one column per task of the sequence, percent with four decimals; a missing number is an empty
cell. Lines end in a newline alone; reading accepts both kinds of line ends.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gift_lightning.errors import InputError
from gift_lightning.files import write_text

_CORNER = "after_task"


class NamedMatrix(NamedTuple):
    """An accuracy matrix with the names of its tasks."""

    tasks: list[str]
    """Task names in learning order, ``[n]``."""
    R: list[list[float | None]]
    """Accuracies in percent, ``[k, n]`` with k <= n; None for an empty cell."""


def write_accuracy_csv(path: str | Path, results: Mapping[str, Any]) -> None:
    """Write ``results["R"]`` (percent, maybe unfinished) to ``path``, atomically.

    Args:
        path: the CSV file.
        results: content of ``results.json``: needs ``tasks`` and ``R``.

    Raises:
        InputError: the file cannot be written.
    """
    tasks, rows = list(results["tasks"]), results["R"]
    lines = [_names([_CORNER, *tasks])]
    for task, row in zip(tasks, rows, strict=False):  # fewer rows than tasks while the run is in progress
        lines.append(_names([task]) + _numbers(row))
    write_text(path, "".join(f"{line}\n" for line in lines))


def _names(names: Sequence[str]) -> str:
    """Cells with names, in quotes where they need them."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(names)
    return buffer.getvalue()


def _numbers(row: Sequence[float | None]) -> str:
    """Further cells with numbers, formatted at once: a long sequence writes all of its rows after each task."""
    numbers = tuple([math.nan if number is None else number for number in row] if None in row else row)
    return (",%.4f" * len(numbers) % numbers).replace("nan", "")


def read_accuracy_csv(path: str | Path) -> NamedMatrix:
    """The matrix in a file of :func:`write_accuracy_csv`, or in a published one.

    Raises:
        InputError: the file is missing or has another layout.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist.")
    return parse_accuracy_csv(path.read_text(encoding="utf-8"), str(path))


def parse_accuracy_csv(text: str, name: str = "the CSV text") -> NamedMatrix:
    """The matrix in ``text``; ``name`` is its name in messages.

    Raises:
        InputError: the text has another layout.

    >>> parse_accuracy_csv("after_task,A,B\\nA,90.0000,60.0000\\n")
    NamedMatrix(tasks=['A', 'B'], R=[[90.0, 60.0]])
    """
    header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    if header[:1] != [_CORNER] or len(header) < 2:
        raise InputError(f"{name} is no accuracy matrix: its first line must be '{_CORNER},<task>,<task>,...'.")
    tasks = header[1:]
    matrix: list[list[float | None]] = []
    for position, row in enumerate(rows):
        if len(row) != len(header) or position >= len(tasks) or row[0] != tasks[position]:
            raise InputError(
                f"{name} is no accuracy matrix: line {position + 2} must be the row of a task in the order of the "
                f"header, with {len(tasks)} accuracies."
            )
        try:
            matrix.append([float(cell) if cell else None for cell in row[1:]])
        except ValueError:
            raise InputError(f"{name} is no accuracy matrix: line {position + 2} holds no numbers.") from None
    return NamedMatrix(tasks, matrix)
