"""A picture of test images that a run has forgotten: right after their task, and wrong now."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from gift_lightning.console import visible
from gift_lightning.errors import InputError
from gift_lightning.files import atomic_write
from gift_lightning.records.predictions import forgotten, read_predictions
from gift_lightning.records.report.replay_grid import spread
from gift_lightning.records.report.words import any_letters
from gift_lightning.records.run_folder import RunFolder

_COLUMNS, _MOST_ROWS = 8, 12
_SIDE, _GAP, _LINE, _HEAD = 1.25, 0.1, 0.115, 0.42  # inches: of an image, between two, of a line of text, of a heading
_LETTERS = 21  # of a line below an image
_SHOWN, _NOW = "#000000", "#c92a2a"


class ForgottenImages(NamedTuple):
    """The forgotten test images of a task.

    Attributes:
        task: its number, from 0.
        learned: how many were right after the task.
        images: numbers of those that are wrong now.
        names: the class of each, and the one that it is taken for.
    """

    task: int
    learned: int
    images: list[int]
    names: list[tuple[str, str]]


def forgotten_images(folder: RunFolder, learned: int) -> list[ForgottenImages]:
    """Of each task that has predictions after itself and after ``learned`` tasks.

    Raises:
        InputError: a file with predictions is damaged.
    """
    found = []
    for task in range(learned - 1):
        files = [folder.predictions_csv(row, task) for row in (task + 1, learned)]
        if all(file.is_file() for file in files):
            then, now = map(read_predictions, files)
            lost = forgotten(then, now)
            names = [(now.names[int(now.labels[i])], now.names[int(now.classes[i, 0])]) for i in lost]
            found.append(ForgottenImages(task, int(then.right.sum()), lost, names))
    return found


def plot_forgotten(folder: RunFolder, tasks: Sequence[str], test_sets: Sequence[Any]) -> None:
    """Write the picture of a run, atomically: up to eight images of each task, evenly spread over those forgotten.

    Twelve tasks have room: those that have forgotten the most.

    Args:
        folder: of the run.
        tasks: names of the tasks that are learned.
        test_sets: of these tasks, ``(PIL image, label)`` pairs. The place of one that does not decode stays empty.

    Raises:
        InputError: the file cannot be written, or one with predictions is damaged.
    """
    found = forgotten_images(folder, len(tasks))
    rows = sorted(sorted(found, key=lambda row: -len(row.images))[:_MOST_ROWS])
    shown = [spread(len(row.images), _COLUMNS) for row in rows]
    captions = [[_caption(*row.names[i]) for i in chosen] for row, chosen in zip(rows, shown, strict=True)]
    lines = [max((name.count("\n") + now.count("\n") + 2 for name, now in row), default=0) for row in captions]
    heights = [_HEAD + (_SIDE + _LINE * count if count else 0) for count in lines]
    width, height = (_SIDE + _GAP) * _COLUMNS + _GAP, sum(heights) + 2 * _HEAD
    figure = Figure(figsize=(width, height), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    lost, right = sum(len(row.images) for row in found), sum(row.learned for row in found)
    title = f"{lost} of {right} test images that were right after their task are wrong after {visible(tasks[-1])}"
    axes.text(_GAP, _HEAD / 2, title, fontsize=11, fontweight="bold", va="center", parse_math=False)
    top = _HEAD
    for row, chosen, texts, tall in zip(rows, shown, captions, heights, strict=True):
        head = f"{visible(tasks[row.task])}: {len(row.images)} of {row.learned}"
        axes.text(_GAP, top + _HEAD / 2, head, fontsize=9, fontweight="bold", va="center", parse_math=False)
        for column, (place, (name, now)) in enumerate(zip(chosen, texts, strict=True)):
            left, middle = _GAP + (_SIDE + _GAP) * column, top + _HEAD + _SIDE / 2
            image = _read(test_sets[row.task], row.images[place])
            if image is not None:
                half = [_SIDE * side / max(image.size) / 2 for side in image.size]
                extent = (left + _SIDE / 2 - half[0], left + _SIDE / 2 + half[0], middle + half[1], middle - half[1])
                # small pictures keep their pixels, large ones are smoothed
                axes.imshow(image, extent=extent, interpolation="nearest" if image.width < 96 else "antialiased")
            below = middle + _SIDE / 2 + 0.03
            axes.text(left, below, name, fontsize=6.5, va="top", color=_SHOWN, parse_math=False)
            below += _LINE * (name.count("\n") + 1)
            axes.text(left, below, now, fontsize=6.5, va="top", color=_NOW, parse_math=False)
        top += tall
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")  # which each image has set
    with any_letters(), atomic_write(folder.forgotten_png) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _caption(name: str, now: str) -> tuple[str, str]:
    """The lines on the class of an image, and on the one that it is taken for."""
    lines = [textwrap.wrap(text, _LETTERS) for text in (visible(name), f"now {visible(now)}")]
    return "\n".join(lines[0]), "\n".join(lines[1])


def _read(test_set: Any, index: int) -> Image.Image | None:
    try:
        image: Image.Image = test_set[index][0]
    except InputError:
        return None
    return image.convert("RGB")
