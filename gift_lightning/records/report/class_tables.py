"""Tables of the per-class results of a run, for the terminal, Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gift_lightning.console import visible
from gift_lightning.records.report.classes import ClassReport
from gift_lightning.records.report.formats import latex, latex_table, markdown, markdown_table, no_formula
from gift_lightning.records.report.words import percent, printed_difference

SHOWN = 20
"""Rows of a table in the terminal."""

_HEADS = ["task", "class", "images", "zero-shot", "learned", "end", "change"]  # of the classes

Texts = tuple[str, list[str], list[list[str]]]
"""A table: title, heads, and rows of plain texts on one line each."""


def tables(report: ClassReport, most: int | None = None) -> list[Texts]:
    """The tables of a report, of at most ``most`` rows each but for that of the tasks."""
    classes, confusions = report.classes[:most], report.confusions[:most]
    counts = [[visible(row.task), *map(str, row[1:])] for row in report.tasks]
    accuracies = [
        [*map(visible, row[:2]), str(row.images), *map(percent, row[3:]), printed_difference(row.end, row.learned)]
        for row in classes
    ]
    pairs = [[*map(visible, row[:3]), f"{row.times} of {row.images}"] for row in confusions]
    return [
        (
            f"{report.label}: test images that are right after their task (learned), of these wrong at the end"
            " (forgotten), and right at the end alone (gained)",
            ["task", "images", "learned", "forgotten", "gained"],
            counts,
        ),
        (f"{report.label}: {_some(accuracies, report.classes, 'classes, most lost first')} (%)", _HEADS, accuracies),
        (
            f"{report.label}: {_some(pairs, report.confusions, 'pairs of confused classes at the end')}, most frequent"
            " first",
            ["task", "class", "taken for", "images"],
            pairs,
        ),
    ]


def _some(shown: Sequence[Any], every: Sequence[Any], what: str) -> str:
    return f"{len(every)} {what}" if len(shown) == len(every) else f"{len(shown)} of {len(every)} {what}"


def classes_terminal(report: ClassReport) -> Group:
    """The tables for a terminal; names that are too long for it are continued on the next line."""
    parts: list[Any] = []
    for title, heads, rows in tables(report, SHOWN):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        names = _names(heads)
        for place, head in enumerate(heads):
            is_name = place < names
            table.add_column(Text(head), overflow="fold", justify="left" if is_name else "right", no_wrap=not is_name)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        parts += ["", Text(visible(title), style="bold"), table]
    return Group(*parts)


def _names(heads: Sequence[str]) -> int:
    """How many columns, the first ones of a table, hold names; the others hold numbers."""
    return sum(head in ("task", "class", "taken for") for head in heads)


def classes_csv(reports: Sequence[ClassReport]) -> str:
    """The accuracy of each class in all runs, as one table in CSV; a quote before what a spreadsheet would compute.

    Its numbers have four decimals, and a change is that of the accuracies themselves.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["run", *_HEADS])
    for report in reports:
        for row in report.classes:
            names = [no_formula(visible(name)) for name in (report.label, row.task, row.name)]
            numbers = (row.zero_shot, row.learned, row.end, row.end - row.learned)
            writer.writerow([*names, row.images, *(f"{number:.4f}" for number in numbers)])
    return buffer.getvalue().removesuffix("\n")


def classes_text(report: ClassReport, form: str) -> str:
    """All rows of the tables in ``markdown`` or ``latex``."""
    parts = []
    for title, heads, rows in tables(report):
        if form == "latex":
            body = latex_table([*map(latex, heads)], [[[*map(latex, row)] for row in rows]], _names(heads))
            parts.append(f"% {' '.join(visible(title).split())}\n{body}")
        else:
            parts.append(
                f"{markdown(title)}\n\n{markdown_table(heads, [[*map(markdown, row)] for row in rows], _names(heads))}"
            )
    return "\n\n".join(parts)
