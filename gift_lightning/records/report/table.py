"""The accuracy matrix as a table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gift_lightning.records.report.words import (
    CELL,
    column_heads,
    metrics_of,
    percent,
    row_mean,
    run_name,
    zero_shot_transfer,
)

_WIDTH = 80
"""Width of the table in characters: that of the narrowest supported terminal."""
_LATEST = 10  # rows of a long sequence that goes on: each of its tasks prints the table


def accuracy_table(results: Mapping[str, Any]) -> Group:
    """Accuracies in percent: the zero-shot row, then one row per learned task, one column per task of the sequence.

    If the tasks do not fit in 80 characters, the table has two columns: the task itself, and the mean of the row; while
    the run goes on, it then has the latest ten rows.

    The diagonal (a task right after it was learned) is green, the cells above it (future tasks, hence zero-shot
    ability) are dim. The caption holds the metrics.

    Args:
        results: content of ``results.json``: needs ``method``, ``tasks`` and ``R``; uses ``seed``, ``zero_shot`` and
            ``metrics`` if present.
    """
    tasks: list[str] = list(results["tasks"])
    title = Text(f"{run_name(results)}  (accuracy, %)", style="bold")
    # title and metrics stand beside the table, not in it: rich wraps a table's title to the width of its columns;
    # the empty line separates it from earlier output
    return Group("", title, _wide(results, tasks) or _narrow(results, tasks), _caption(results))


def row_table(tasks: Sequence[str], row: Sequence[float], mean: float) -> Table:
    """Accuracies of one model in percent, a line for each task, and their mean."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("task", overflow="fold")
    table.add_column("accuracy", justify="right")
    for name, accuracy in zip(tasks, row, strict=True):
        table.add_row(Text(name), f"{accuracy:.2f}")
    table.add_section()
    table.add_row("mean", f"{mean:.2f}")
    return table


def _wide(results: Mapping[str, Any], tasks: list[str]) -> Group | None:
    """A column for each task, if they fit."""
    room = _WIDTH - max(cell_len(name) for name in [*tasks, "zero-shot"])
    if room < (CELL + 1) * len(tasks):
        return None
    heads, explained = column_heads(tasks, room)
    padding = 0 if explained or column_heads(tasks, room, space=2)[1] else 1  # the box adds one space by itself
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, padding, 0, 0))
    table.add_column("after", no_wrap=True)
    for head in heads:
        table.add_column(Text(head), justify="right", no_wrap=True, min_width=CELL)
    if results.get("zero_shot"):
        table.add_row("zero-shot", *_cells(results["zero_shot"], -1), end_section=True)
    for task, (name, row) in enumerate(zip(tasks, results["R"], strict=False)):
        table.add_row(Text(name), *_cells(row, task))
    return Group(table, *([Text(explained, style="dim")] if explained else []))


def _narrow(results: Mapping[str, Any], tasks: list[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("after", overflow="fold")
    for head in ("on itself", "mean"):
        table.add_column(head, justify="right", no_wrap=True)
    rows = list(enumerate(zip(tasks, results["R"], strict=False)))
    for task, (name, row) in rows if len(rows) == len(tasks) else rows[-_LATEST:]:
        table.add_row(Text(name), *_cells([row[task]], 0), percent(row_mean(results, row)))
    return table


def _cells(row: Sequence[float | None], task: int) -> list[Text]:
    """The cells of the row after ``task`` (-1: before the first one), styled by their place in the matrix."""
    styles = ["" if j < task else "bold green" if j == task else "dim" for j in range(len(row))]
    return [Text(percent(value), style=style) for value, style in zip(row, styles, strict=True)]


def _caption(results: Mapping[str, Any]) -> Text:
    caption = Text(style="not italic")
    held = results.get("validation")
    _add_metrics(caption, metrics_of(results), zero_shot_transfer(results))
    if held and held["metrics"]:
        count, tasks = sum(map(bool, held["sizes"])), len(results["tasks"])
        of = f" of {count} of {tasks} tasks" if count < tasks else ""
        caption.append(f"\nOn validation images{of}: ", style="dim")
        _add_metrics(caption, held["metrics"], None)
    return caption


def _add_metrics(caption: Text, values: Mapping[str, float | None], reference: float | None) -> None:
    gap = ""
    for label, key in (("Transfer", "transfer"), ("Avg", "avg"), ("Last", "last"), ("Forgetting", "forgetting")):
        caption.append(f"{gap}{label} ")
        gap = "   "
        caption.append(percent(values.get(key)), style="bold")
        if key == "transfer" and reference is not None:
            caption.append(f" (zero-shot {percent(reference)})", style="dim")
