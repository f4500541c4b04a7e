"""The predictions of a run, one CSV file for each row of R and each task that was tested.

::

    image,label,class_1,probability_1,class_2,probability_2,...
    0 cat/1.jpg,3 cat,3 cat,0.912040,5 dog,0.080311,...

An image is its number in the test set and its path, if it has one; a class is its number among the candidates and its
name. So no cell begins with a character that a spreadsheet reads as a formula, and classes of one name differ. Where
classes of one name count as one (see ``Candidates.merged``), all have the number of the first of them: an image is
right if ``label`` equals ``class_1``. The file has the five most probable classes, or all if there are fewer.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gift_lightning.console import visible
from gift_lightning.errors import InputError
from gift_lightning.files import write_text

TOP = 5
"""Classes of an image in the file."""


class Predictions(NamedTuple):
    """The predictions of one model on the test set of one task, the most probable class first.

    Attributes:
        images: path of each image, or an empty text.
        labels: numbers of the classes ``[n]``.
        classes: numbers of the predicted classes ``[n, k]``.
        probabilities: of these classes ``[n, k]``, softmax over all candidates.
        names: of the classes that occur, by number.
    """

    images: Sequence[str]
    labels: NDArray[np.int64]
    classes: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    names: dict[int, str]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each image is classified rightly ``[n]``."""
        return self.labels == self.classes[:, 0]

    @property
    def accuracy(self) -> float:
        """In percent: the cell of R."""
        return 100.0 * int(self.right.sum()) / len(self.labels)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write a file, atomically.

    Raises:
        InputError: it cannot be written.
    """
    texts = {number: f"{number} {name}" for number, name in predictions.names.items()}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_heads(predictions.classes.shape[1]))
    columns = (predictions.images, *(each.tolist() for each in predictions[1:4]))
    for index, (image, label, classes, shares) in enumerate(zip(*columns, strict=True)):
        pairs = [c for number, share in zip(classes, shares, strict=True) for c in (texts[number], f"{share:.6f}")]
        name = image if image.isprintable() else visible(image)
        writer.writerow([f"{index} {name}" if name else index, texts[label], *pairs])
    write_text(path, buffer.getvalue())


def read_predictions(path: Path) -> Predictions:
    """The content of a file.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        width = (len(head) - 2) // 2
        if not rows or head != _heads(width) or {len(row) for row in rows} != {len(head)}:
            raise ValueError
        names: dict[int, str] = {}
        numbers = [[_number(cell, names) for cell in (row[1], *row[2::2])] for row in rows]
        shares = np.array([row[3::2] for row in rows], dtype=np.float32)
        if [row[0].partition(" ")[0] for row in rows] != [str(number) for number in range(len(rows))]:
            raise ValueError
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: it is written by a run with `run.predictions` true.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, csv.Error):
        raise InputError(f"{path} is damaged: it does not hold the predictions of a run.") from None
    table = np.array(numbers, dtype=np.int64)
    return Predictions([row[0].partition(" ")[2] for row in rows], table[:, 0], table[:, 1:], shares, names)


def forgotten(learned: Predictions, now: Predictions) -> list[int]:
    """Numbers of the images that ``learned`` classifies rightly and ``now`` does not.

    Raises:
        InputError: they are predictions on other images.
    """
    if len(learned.labels) != len(now.labels):
        raise InputError(f"Predictions on {len(learned.labels)} and on {len(now.labels)} images have other test sets.")
    numbers: list[int] = np.flatnonzero(learned.right & ~now.right).tolist()
    return numbers


def _heads(width: int) -> list[str]:
    pairs = (f"{name}_{place}" for place in range(1, width + 1) for name in ("class", "probability"))
    return ["image", "label", *pairs]


def _number(cell: str, names: dict[int, str]) -> int:
    number, _, name = cell.partition(" ")
    names[int(number)] = name
    return int(number)
