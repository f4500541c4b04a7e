"""Names and numbers in reports: the same rules for the terminal, the heatmap and the comparison."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size

from gift_lightning.numerics import metrics

NO_NUMBER = "–"
"""The text of an empty cell."""


def percent(value: float | None) -> str:
    """A number with one decimal, as in the papers; a dash for None and NaN.

    >>> percent(62.6163), percent(None)
    ('62.6', '–')
    """
    return NO_NUMBER if value is None or value != value else f"{value:.1f}"


def printed_difference(value: float, base: float) -> str:
    """The difference of two accuracies as they are printed, with its sign, as the papers print it.

    >>> printed_difference(33.34, 66.66), printed_difference(66.66, 33.34), printed_difference(33.31, 33.34)
    ('-33.4', '+33.4', '0.0')
    """
    difference = round(round(value, 1) - round(base, 1), 1)
    return f"{difference:+.1f}" if difference else "0.0"


def run_name(results: Mapping[str, Any]) -> str:
    """Method and seed, and the progress of a run that is not finished.

    >>> run_name({"method": "Finetune", "seed": 0, "tasks": ["A", "B"], "R": [[90.0, 60.0]]})
    'Finetune, seed 0, after task 1 of 2'
    """
    name = f"{results['method']}"
    if results.get("seed") is not None:
        name += f", seed {results['seed']}"
    learned, tasks = len(results["R"]), len(results["tasks"])
    return name if learned == tasks else f"{name}, after task {learned} of {tasks}"


def metrics_of(results: Mapping[str, Any]) -> dict[str, float | None]:
    """The stored metrics of a run; computed from its matrix if missing."""
    stored: dict[str, float | None] | None = results.get("metrics")
    return stored or metrics.summary(results["R"], row_weights(results))


def row_mean(results: Mapping[str, Any], row: Sequence[float | None]) -> float | None:
    """Mean accuracy of a row of the matrix: over tasks, or over images if the label space is ``seen``."""
    mean = metrics.last([row], row_weights(results))
    return None if mean != mean else mean


def row_weights(results: Mapping[str, Any]) -> Sequence[float] | None:
    """By what the tasks of a row count: their numbers of test images in the label space ``seen``, else all alike."""
    return results.get("test_sizes") if results.get("protocol", {}).get("label_space") == "seen" else None


def zero_shot_transfer(results: Mapping[str, Any]) -> float | None:
    """Transfer of the pre-trained model: mean zero-shot accuracy of all tasks but the first, in percent.

    ``None`` if future tasks are not predicted (label space ``seen``).
    """
    if results.get("protocol", {}).get("label_space") == "seen":
        return None
    numbers = [value for value in (results.get("zero_shot") or [])[1:] if value is not None]
    return sum(numbers) / len(numbers) if numbers else None


CELL = 5
"""Width of a column of accuracies in a terminal: that of 100.0."""


def column_heads(names: Sequence[str], room: int, space: int = 1) -> tuple[list[str], str]:
    """Heads of columns in a terminal, and a line that explains them.

    They are the names, and the line is empty. If these have no room, they are numbers from 1, which the line explains.

    Args:
        names: of the tasks.
        room: characters for all columns.
        space: characters before each column.

    >>> column_heads(["Aircraft", "CIFAR100"], 20)
    (['Aircraft', 'CIFAR100'], '')
    >>> column_heads(["Aircraft", "CIFAR100"], 16)
    (['1', '2'], '1=Aircraft, 2=CIFAR100')
    """
    widths = [cell_len(name) for name in names]  # a Chinese character takes two
    if all(widths) and sum(max(width, CELL) + space for width in widths) <= room:
        return [*names], ""
    numbers = [str(position + 1) for position in range(len(names))]
    return numbers, ", ".join(map("=".join, zip(numbers, names, strict=True)))


@contextlib.contextmanager
def any_letters() -> Iterator[None]:
    """Silence matplotlib's warning for each letter that no font has; such a letter is drawn as a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s)Glyph .* missing from")
        yield


def cut(name: str, width: int, end: str = "…") -> str:
    """A name, cut with ``end`` after it if it takes more than ``width`` characters of a terminal.

    >>> cut("Caltech101", 8), cut("DTD", 8)
    ('Caltech…', 'DTD')
    """
    if cell_len(name) <= width:
        return name
    return set_cell_size(name, width - cell_len(end)).rstrip() + end
