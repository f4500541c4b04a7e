"""Several runs side by side: one row per method, mean and standard deviation over its seeds."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from gift_lightning.records.report.formats import markdown, markdown_table
from gift_lightning.records.report.words import NO_NUMBER, metrics_of

COLUMNS = ("Method", "Transfer", "Avg", "Last", "Seconds", "Seeds")
"""Heads of both forms; accuracies in percent, seconds of training and evaluation together."""


def comparison_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    """One row per method for the terminal: mean +- standard deviation over seeds of Transfer, Avg, Last and seconds.

    Args:
        runs: contents of ``results.json`` or entries of ``benchmarks/mini.json``: need ``method`` and ``R`` (or
            ``metrics``); use ``learns`` and ``cost``. Methods that do not learn come first, the others follow in rising
            order of Avg.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in COLUMNS:
        if column == COLUMNS[0]:
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column, justify="right", no_wrap=True)
    for row in _rows(runs):
        table.add_row(*(Text(cell) for cell in row))
    if machines := _machines(runs):
        table.caption = Text(f"Seconds on {machines}.", style="dim")
    return table


def comparison_markdown(runs: Sequence[Mapping[str, Any]]) -> str:
    """The rows of :func:`comparison_table` as a Markdown table, without a line end after the last row."""
    machines = _machines(runs)
    heads = [f"Seconds ({markdown(machines)})" if head == "Seconds" and machines else head for head in COLUMNS]
    return markdown_table(heads, [[markdown(cell) for cell in row] for row in _rows(runs)])


def _machines(runs: Sequence[Mapping[str, Any]]) -> str:
    """The machines that made the runs; empty if a run of an earlier version does not name its own."""
    named = [(run.get("cost") or {}).get("machine") for run in runs]
    return "" if None in named else " and ".join(dict.fromkeys(map(str, named)))


def total_seconds(cost: Mapping[str, Any]) -> float | None:
    """Sum of all entries of ``cost`` whose name ends in ``seconds``: numbers, or lists with one number per task.

    >>> total_seconds({"train_seconds": [10.0, 12.5], "evaluate_seconds": [1.0, 1.5], "peak_memory_mb": 900})
    25.0
    """
    values: list[float] = []
    for name, entry in cost.items():
        if name.endswith("seconds"):
            values += [value for value in (entry if isinstance(entry, list) else [entry]) if value is not None]
    return sum(values) if values else None


def _rows(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(run["method"], []).append(run)

    def rank(method: str) -> tuple[bool, float, str]:
        learns = any(run.get("learns", True) for run in groups[method])
        return learns, _mean(_values(groups[method], "avg")), method

    return [
        (
            method,
            *(_spread(_values(groups[method], key), 1) for key in ("transfer", "avg", "last")),
            _spread([total_seconds(run.get("cost") or {}) for run in groups[method]], 0),
            str(len(groups[method])),
        )
        for method in sorted(groups, key=rank)
    ]


def _values(runs: Sequence[Mapping[str, Any]], key: str) -> list[float | None]:
    return [metrics_of(run).get(key) for run in runs]


def _mean(values: Sequence[float | None]) -> float:
    numbers = [value for value in values if value is not None]
    return statistics.fmean(numbers) if numbers else 0.0


def _spread(values: Sequence[float | None], digits: int) -> str:
    """``mean ± sample standard deviation``; the mean alone for one number, a dash without any."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return NO_NUMBER
    mean = f"{statistics.fmean(numbers):.{digits}f}"
    return mean if len(numbers) == 1 else f"{mean} ± {statistics.stdev(numbers):.{digits}f}"
