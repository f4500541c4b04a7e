"""Per-class results of a run, from its predictions: accuracies, confused classes, forgotten images."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from gift_lightning.console import visible
from gift_lightning.errors import InputError
from gift_lightning.records.predictions import Predictions, forgotten, kept, read_predictions
from gift_lightning.records.report.formats import latex, latex_table, markdown, markdown_table
from gift_lightning.records.report.words import percent
from gift_lightning.records.run_folder import RunFolder

SHOWN = 20
"""Rows of a table in the terminal and on the page."""


class ClassAccuracy(NamedTuple):
    """Accuracy on the test images of a class, in percent: of the pre-trained model, after its task, and at the end."""

    task: str
    name: str
    images: int
    zero_shot: float
    learned: float
    end: float


class Confusion(NamedTuple):
    """Images of a class that the model at the end takes for another."""

    task: str
    name: str
    predicted: str
    count: int
    images: int


class ForgottenImage(NamedTuple):
    """A test image that was right after its task and is wrong at the end; ``picture`` is the file of a small copy."""

    task: str
    name: str
    predicted: str
    picture: Path


class TaskCounts(NamedTuple):
    """Test images of a task: right after it, of these wrong at the end, and right at the end alone."""

    task: str
    images: int
    learned: int
    forgotten: int
    gained: int


@dataclass(frozen=True)
class ClassReport:
    """The per-class results of a run.

    Attributes:
        label: of the run.
        tasks: counts of each learned task.
        classes: all with test images, those that lost the most since their task first.
        confusions: all, the most frequent first.
        forgotten: the forgotten images of which the run kept a copy.
    """

    label: str
    tasks: list[TaskCounts]
    classes: list[ClassAccuracy]
    confusions: list[Confusion]
    forgotten: list[ForgottenImage]


def has_predictions(folder: Path, results: Mapping[str, Any]) -> bool:
    """Whether a run with these results has written its predictions, by its last file."""
    learned = len(results["R"])
    return learned > 0 and RunFolder.at(folder).predictions_csv(learned, learned - 1).is_file()


def class_report(label: str, folder: Path, results: Mapping[str, Any]) -> ClassReport:
    """The per-class results of a run after its latest task.

    Args:
        label: of the run.
        folder: of the run.
        results: content of its ``results.json``.

    Raises:
        InputError: a file with predictions is missing or damaged, or is not of these results.
    """
    run, learned = RunFolder.at(folder), len(results["R"])
    report = ClassReport(label, [], [], [], [])
    for index, task in enumerate(results["tasks"][:learned]):
        files = [run.predictions_csv(row, index) for row in (0, index + 1, learned)]
        rows = [results["zero_shot"], results["R"][index], results["R"][-1]]
        models = [_checked(file, row[index]) for file, row in zip(files, rows, strict=True)]
        _, then, now = models
        lost = forgotten(then, now)
        gained = len(forgotten(now, then))
        report.tasks.append(TaskCounts(task, len(now.labels), int(then.right.sum()), len(lost), gained))
        report.classes.extend(_classes(task, models))
        report.confusions.extend(_confusions(task, now))
        for image in kept(lost):
            names = now.names[int(now.labels[image])], now.names[int(now.classes[image, 0])]
            report.forgotten.append(ForgottenImage(task, *names, run.thumbnail(index, image)))
    report.classes.sort(key=lambda row: row.end - row.learned)
    report.confusions.sort(key=lambda row: -row.count)
    return report


def _checked(file: Path, accuracy: float | None) -> Predictions:
    predictions = read_predictions(file)
    if predictions.accuracy != accuracy:
        raise InputError(f"{file} is not of these results: its accuracy is {predictions.accuracy}, not {accuracy}.")
    return predictions


def _classes(task: str, models: Sequence[Predictions]) -> Iterator[ClassAccuracy]:
    import torch
    from torchmetrics.functional.classification import multiclass_accuracy

    # numbers of classes differ from row to row where the label space grows: the label of an image is its class
    first, now = models[0], models[-1]
    numbers = sorted({*now.labels.tolist()})
    place = {number: index for index, number in enumerate(numbers)}
    labels = torch.tensor([place[number] for number in now.labels.tolist()])
    shares = []
    for model in models:
        if len(model.labels) != len(first.labels):
            raise InputError(f"The predictions on task '{task}' are not all on the same images.")
        wrong = len(numbers)  # one number for all that is wrong
        predicted = torch.where(torch.from_numpy(model.right), labels, wrong)
        share = multiclass_accuracy(predicted, labels, num_classes=wrong + 1, average="none", validate_args=False)
        shares.append(share)
    counts = labels.bincount(minlength=len(numbers)).tolist()
    for index, number in enumerate(numbers):
        yield ClassAccuracy(task, now.names[number], counts[index], *(100 * float(each[index]) for each in shares))


def _confusions(task: str, now: Predictions) -> Iterator[Confusion]:
    import torch
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    numbers = sorted({*now.labels.tolist(), *now.classes[:, 0].tolist()})
    place = {number: index for index, number in enumerate(numbers)}
    labels, predicted = (
        torch.tensor([place[number] for number in column.tolist()]) for column in (now.labels, now.classes[:, 0])
    )
    matrix = multiclass_confusion_matrix(predicted, labels, num_classes=len(numbers))
    for true, other in matrix.nonzero().tolist():
        if true != other:
            names = now.names[numbers[true]], now.names[numbers[other]]
            yield Confusion(task, *names, int(matrix[true, other]), int(matrix[true].sum()))


# --- formats ----------------------------------------------------------------------------------------------------------

Texts = tuple[str, list[str], list[list[str]]]
"""A table: title, heads, and rows of plain texts."""


def tables(report: ClassReport, most: int | None = None) -> list[Texts]:
    """The tables of a report, of at most ``most`` rows each but for that of the tasks."""
    classes, confusions = report.classes[:most], report.confusions[:most]
    counts = [[row.task, *map(str, row[1:])] for row in report.tasks]
    accuracies = [
        [row.task, row.name, str(row.images), *map(percent, row[3:]), percent(row.end - row.learned)] for row in classes
    ]
    pairs = [[row.task, row.name, row.predicted, f"{row.count} of {row.images}"] for row in confusions]
    heads = ["task", "class", "images", "zero-shot", "learned", "end", "change"]
    return [
        (
            f"{report.label}: test images",
            ["task", "images", "right after the task", "of these wrong at the end", "right at the end alone"],
            counts,
        ),
        (f"{report.label}: {_some(accuracies, report.classes, 'classes, most lost first')} (%)", heads, accuracies),
        (
            f"{report.label}: {_some(pairs, report.confusions, 'pairs of confused classes at the end')}",
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
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        texts = sum(not head_is_number(head) for head in heads)
        for place, head in enumerate(heads):
            table.add_column(Text(head), overflow="fold", justify="left" if place < texts else "right")
        for row in rows:
            table.add_row(*(Text(visible(cell)) for cell in row))
        parts += ["", Text(visible(title), style="bold"), table]
    return Group(*parts)


def head_is_number(head: str) -> bool:
    """Whether a column of the tables holds numbers: all but those of names do."""
    return head not in ("task", "class", "taken for")


def classes_text(report: ClassReport, form: str) -> str:
    """All rows of the tables in ``markdown``, ``latex`` or ``csv``."""
    if form == "csv":
        return "\n".join(_csv(heads, rows) for _, heads, rows in tables(report))
    parts = []
    for title, heads, rows in tables(report):
        if form == "latex":
            body = latex_table([*map(latex, heads)], [[[*map(latex, row)] for row in rows]])
            parts.append(f"% {' '.join(visible(title).split())}\n{body}")
        else:
            parts.append(f"{markdown(title)}\n\n{markdown_table(heads, [[*map(markdown, row)] for row in rows])}")
    return "\n\n".join(parts)


def _csv(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as CSV; a quote before what a spreadsheet would read as a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(heads)
    for row in rows:
        names = [re.sub(r"^(?=[=+\-@\t\r])", "'", cell) for cell in row]
        cells = [
            cell if head_is_number(head) else name for head, cell, name in zip(heads, row, names, strict=True)
        ]
        writer.writerow(cells)
    return buffer.getvalue()
