"""Per-class results of a run, from its predictions: accuracies, confused classes, numbers of forgotten images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from gift_lightning.errors import InputError
from gift_lightning.records.predictions import Predictions, forgotten, read_predictions
from gift_lightning.records.run_folder import RunFolder


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
    times: int
    images: int


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
    """

    label: str
    tasks: list[TaskCounts]
    classes: list[ClassAccuracy]
    confusions: list[Confusion]


def has_predictions(folder: Path, results: Mapping[str, Any]) -> bool:
    """Whether a run with these results has written the predictions that ``class_report`` needs."""
    return bool(results["R"]) and not missing_predictions(folder, results)


def missing_predictions(folder: Path, results: Mapping[str, Any]) -> list[Path]:
    """The files with predictions that ``class_report`` needs and that are not there."""
    cells = [cell for cells in _cells(RunFolder.at(folder), results) for cell in cells]
    return [file for file, _ in cells if not file.is_file()]


def class_report(label: str, folder: Path, results: Mapping[str, Any]) -> ClassReport:
    """The per-class results of a run after its latest task.

    Args:
        label: of the run.
        folder: of the run.
        results: content of its ``results.json``.

    Raises:
        InputError: a file with predictions is missing or damaged, or is not of these results.
    """
    report = ClassReport(label, [], [], [])
    for task, cells in zip(results["tasks"], _cells(RunFolder.at(folder), results), strict=False):
        models = [_checked(file, accuracy) for file, accuracy in cells]
        _, then, now = models
        for model, (file, _) in zip(models, cells, strict=True):
            if _images_of(model) != _images_of(now):
                raise InputError(f"{file} and {cells[-1][0]} have other images or labels: restore the older one.")
        lost, gained = len(forgotten(then, now)), len(forgotten(now, then))
        report.tasks.append(TaskCounts(task, len(now.labels), int(then.right.sum()), lost, gained))
        report.classes.extend(_classes(task, models))
        report.confusions.extend(_confusions(task, now))
    report.classes.sort(key=lambda row: (round(row.end, 1) - round(row.learned, 1), row.end - row.learned))
    report.confusions.sort(key=lambda row: -row.times)
    return report


def _cells(run: RunFolder, results: Mapping[str, Any]) -> Iterator[list[tuple[Path, float | None]]]:
    """Of each learned task, the files of the pre-trained model, after the task and at the end, with their accuracy."""
    learned = len(results["R"])
    rows = [results.get("zero_shot") or [None] * learned, *results["R"]]  # earlier versions had none
    for index in range(learned):
        yield [(run.predictions_csv(row, index), rows[row][index]) for row in (0, index + 1, learned)]


def _checked(file: Path, accuracy: float | None) -> Predictions:
    predictions = read_predictions(file)
    if predictions.accuracy != accuracy:
        raise InputError(f"{file} is not of these results: its accuracy is {predictions.accuracy}, not {accuracy}.")
    return predictions


def _images_of(predictions: Predictions) -> list[tuple[str, str]]:
    """File name and class of each image; the folder, and the number of the class, may change within a run."""
    classes = [predictions.names[label] for label in predictions.labels.tolist()]
    return [(PurePath(image).name, name) for image, name in zip(predictions.images, classes, strict=True)]


def _classes(task: str, models: Sequence[Predictions]) -> Iterator[ClassAccuracy]:
    import torch
    from torchmetrics.functional.classification import multiclass_accuracy

    # numbers of classes differ from row to row where the label space grows: the label of an image is its class
    now = models[-1]
    numbers = sorted({*now.labels.tolist()})
    place = {number: index for index, number in enumerate(numbers)}
    labels = torch.tensor([place[number] for number in now.labels.tolist()])
    shares = []
    for model in models:
        wrong = len(numbers)  # one number for all that is wrong
        predicted = torch.where(torch.from_numpy(model.right), labels, wrong)
        share = multiclass_accuracy(predicted, labels, num_classes=wrong + 1, average="none", validate_args=False)
        shares.append(share)
    counts = labels.bincount(minlength=len(numbers)).tolist()
    for index, number in enumerate(numbers):
        count = counts[index]
        exact = [100 * round(float(each[index]) * count) / count for each in shares]  # torchmetrics has float32
        yield ClassAccuracy(task, now.names[number], count, *exact)


def _confusions(task: str, now: Predictions) -> Iterator[Confusion]:
    import torch
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    numbers = sorted({*now.labels.tolist(), *now.classes[:, 0].tolist()})
    place = {number: index for index, number in enumerate(numbers)}
    labels, predicted = (
        torch.tensor([place[number] for number in column.tolist()]) for column in (now.labels, now.classes[:, 0])
    )
    # torchmetrics wants two classes at least
    matrix = multiclass_confusion_matrix(predicted, labels, num_classes=max(2, len(numbers)))
    for true, other in matrix.nonzero().tolist():
        if true != other:
            names = now.names[numbers[true]], now.names[numbers[other]]
            yield Confusion(task, *names, int(matrix[true, other]), int(matrix[true].sum()))
