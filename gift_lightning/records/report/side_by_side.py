"""Finished runs on the same tasks, one row each: ``python -m gift_lightning report runs/a runs/b``."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gift_lightning.errors import InputError
from gift_lightning.records import published
from gift_lightning.records.report.formats import latex, latex_table, markdown_table, no_formula
from gift_lightning.records.report.formats import markdown as escaped
from gift_lightning.records.report.words import (
    CELL,
    column_heads,
    metrics_of,
    percent,
    row_mean,
    run_name,
    zero_shot_transfer,
)

_METRICS = ("transfer", "avg", "last")


class Row(NamedTuple):
    """A row of the table, in percent."""

    label: str
    tasks: list[float | None]
    """Accuracy on each task after the last one."""
    metrics: list[float | None]
    """Transfer, Avg and Last."""
    source: str = ""
    """Where published numbers were read, if not in the publication."""
    competes: bool = True
    """Whether it may be the best: not without learning, and not by numbers that were read in no publication."""

    @property
    def whole_label(self) -> str:
        """The label, with the source after it."""
        return f"{self.label} ({self.source})" if self.source else self.label

    @property
    def cells(self) -> list[float | None]:
        """Accuracies and metrics, in the order of the columns."""
        return [*self.tasks, *self.metrics]


class SideBySide(NamedTuple):
    """Runs side by side, and beside published results on the same tasks."""

    tasks: list[str]
    title: str
    sections: list[list[Row]]
    """Published rows if requested, the pre-trained model, the runs; without empty sections."""

    @property
    def heads(self) -> list[str]:
        """The heads of the columns: task names and metrics."""
        return [*self.tasks, *(name.capitalize() for name in _METRICS)]

    def best(self) -> list[str]:
        """The best of several rows in each column, as printed text, so that equal texts count as equally good."""
        rows = [row.cells for section in self.sections for row in section if row.competes]
        columns = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
        return [percent(max(column)) if len(rows) > 1 and column else "" for column in columns]

    def marked(self, row: Row) -> list[tuple[str, bool]]:
        """``(text, whether it is the best of its column)`` of each cell of a row."""
        cells = zip(map(percent, row.cells), self.best(), strict=True)
        return [(text, text == best and row.competes) for text, best in cells]


def side_by_side(runs: Sequence[Mapping[str, Any]], benchmark: str | None = None) -> SideBySide:
    """Accuracy on each task after the last one, and the metrics, of several runs.

    Args:
        runs: contents of ``results.json`` on the same tasks.
        benchmark: name of the published results to set beside them, as ``mtil_order_1``.

    Raises:
        InputError: the runs differ in tasks, data or starting weights, or the published results are on other tasks.
    """
    first = runs[0]
    for run in runs[1:]:
        if (differing := _differing(first, run)) is not None:
            names = " and ".join(str(each.get("folder", run_name(each))) for each in (first, run))
            raise InputError(
                f"{names} have other {differing}, so that a table would not compare them: take runs of one benchmark,"
                " or give --out report.html, which shows each and says in what they differ."
            )
    tasks: list[str] = list(first["tasks"])
    if benchmark:
        check_comparable(first["protocol"])
    theirs, ours = [], []
    for row in published.all_rows(benchmark, tasks) if benchmark is not None else []:
        cells = row.last_row or [None] * len(tasks)
        theirs.append(
            Row(row.method, cells, [row.transfer, row.avg, row.last], row.source, row.learns and not row.source)
        )
    zero_shot: list[float] = first.get("zero_shot") or []
    if zero_shot:
        last = row_mean(first, zero_shot)
        # no Avg: the mean over rows would need the zero-shot accuracy on the classes seen after each task
        avg = None if first["protocol"].get("label_space") == "seen" else last
        label = "zero-shot, measured" if theirs else "zero-shot"
        ours.append(Row(label, [*zero_shot], [zero_shot_transfer(first), avg, last], competes=False))
    labels = _labels(runs, has_namesakes=bool(theirs))
    learned = [
        Row(label, list(run["R"][-1]), [metrics_of(run)[name] for name in _METRICS], competes=run.get("learns", True))
        for label, run in zip(labels, runs, strict=True)
    ]
    title = "After the last task  (accuracy, %)" + (f", published on {benchmark} and measured" if theirs else "")
    return SideBySide(tasks, title, [section for section in (theirs, ours, learned) if section])


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """What two runs have in another way, as words; ``None`` if a table may compare them."""
    if list(one["tasks"]) != list(other["tasks"]):
        return "tasks, or the same in another order"
    ours, theirs = one["protocol"], other["protocol"]
    if ours["id"] == theirs["id"]:
        return None
    words = {"label_space": "label spaces", "shots": "shots", "fingerprints": "images", "weights": "starting weights"}
    found = [word for key, word in words.items() if ours.get(key) != theirs.get(key)]
    return " and ".join(found) or "class names, templates or test transforms"


def _labels(runs: Sequence[Mapping[str, Any]], has_namesakes: bool) -> list[str]:
    """Distinct labels: the methods, else methods and seeds, else the names of the folders."""
    methods, names = [str(run["method"]) for run in runs], [run_name(run) for run in runs]
    if len(set(methods)) == len(methods) and not has_namesakes:
        return methods
    return names if len(set(names)) == len(names) else [str(run.get("folder", run_name(run))) for run in runs]


def check_comparable(protocol: Mapping[str, Any]) -> None:
    """Check that runs of this protocol may stand beside the published results.

    Raises:
        InputError: their label space or number of training images is not the published one.
    """
    space, shots = protocol.get("label_space", "task"), [*protocol.get("shots", {}).values()]
    if space != "task" or shots:
        difference = f"data.label_space {space}" if space != "task" else f"{shots[0]} shots"
        raise InputError(f"The runs have {difference}, the published results do not: show them without --published.")


# --- formats ----------------------------------------------------------------------------------------------------------


def terminal(comparison: SideBySide, width: int = 80) -> Group:
    """The table for a terminal of ``width`` columns: if it is too narrow for the tasks, the metrics alone."""
    rows = [row for section in comparison.sections for row in section]
    labels = {id(row): f"{row.label} *" if row.source else row.label for row in rows}
    count, metrics = len(comparison.tasks), comparison.heads[-len(_METRICS) :]
    taken = max(map(cell_len, labels.values())) + sum(max(len(name), CELL) + 1 for name in metrics)
    room = width - taken
    first = 0 if room >= count * (CELL + 1) else count
    heads, explained = column_heads(comparison.tasks, room)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.add_column("", overflow="fold")
    for head in [*heads, *metrics][first:]:
        table.add_column(Text(head), justify="right", no_wrap=True, min_width=CELL)
    for section in comparison.sections:
        for row in section:
            usual = "" if row.competes else "dim"
            cells = [Text(text, "bold green" if is_best else usual) for text, is_best in comparison.marked(row)]
            table.add_row(Text(labels[id(row)]), *cells[first:], end_section=row is section[-1])
    lines: list[Any] = ["", Text(comparison.title, style="bold"), table]
    lines += [Text(f"* {source}", style="dim") for source in dict.fromkeys(row.source for row in rows if row.source)]
    if explained and not first:
        lines.append(Text(explained, style="dim"))
    if first:
        needed = taken + count * (CELL + 1)
        lines.append(Text(f"Each task: in a terminal of {needed} columns, or with --format markdown.", style="dim"))
    return Group(*lines)


def markdown(comparison: SideBySide) -> str:
    """The table in Markdown, the best of each column in bold."""
    rows = [
        [escaped(row.whole_label), *(f"**{text}**" if is_best else text for text, is_best in comparison.marked(row))]
        for section in comparison.sections
        for row in section
    ]
    return markdown_table(["Method", *map(escaped, comparison.heads)], rows)


def latex_tabular(comparison: SideBySide) -> str:
    """The table in LaTeX with the package booktabs, the best of each column in bold."""
    sections = [
        [
            [latex(row.whole_label), *(rf"\textbf{{{text}}}" if is_best else latex(text) for text, is_best in marked)]
            for row in section
            for marked in [comparison.marked(row)]
        ]
        for section in comparison.sections
    ]
    return latex_table(["Method", *map(latex, comparison.heads)], sections)


def csv_text(comparison: SideBySide) -> str:
    """The table as CSV; a text that a spreadsheet would take for a formula begins with an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["Method", *map(no_formula, comparison.heads)])
    for section in comparison.sections:
        for row in section:
            numbers = ("" if cell is None else f"{cell:.4f}" for cell in row.cells)
            writer.writerow([no_formula(row.whole_label), *numbers])
    return buffer.getvalue().removesuffix("\n")
