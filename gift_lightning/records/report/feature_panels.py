"""The space of features as a picture: a panel for each model, with the same axes."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from gift_lightning.console import visible
from gift_lightning.files import atomic_write
from gift_lightning.records.feature_map import FeatureMap
from gift_lightning.records.report.words import any_letters

_COLUMNS, _SIDE, _HEAD = 4, 3.0, 0.3  # inches: of a panel, and of a line above or below it
_MARKS = "o^sDvP*X<>ph8d"
_LETTERS = 11  # of the legend in an inch
_LONGEST = 40  # letters of a line above a panel


def plot_feature_map(path: Path, found: FeatureMap, title: str) -> None:
    """Write the picture as a PNG, atomically: colours are classes, marks are tasks (of more than 14, some share one).

    Raises:
        InputError: the file cannot be written.
    """
    columns = min(_COLUMNS, len(found.models))
    width = max(_SIDE * columns, 3 * _SIDE)
    names = [visible(task) for task in found.tasks]
    in_line = max(1, min(len(names), int(width * _LETTERS / (max(map(len, names)) + 6))))
    rows, lines = -(-len(found.models) // columns), -(-len(names) // in_line)
    height = (_SIDE + _HEAD) * rows + _HEAD * (1.5 + lines)
    figure = Figure(figsize=(width, height), dpi=120)
    FigureCanvasAgg(figure)
    title = visible(title)
    figure.text(0.1 / width, 1 - 0.12 / height, title, fontsize=11, fontweight="bold", va="top", parse_math=False)
    low, high = found.points.min((0, 1)), found.points.max((0, 1))
    margin = 0.04 * (high - low)
    tasks = np.array([image.task for image in found.images])
    colours = _colours(found)
    for number, (model, points) in enumerate(zip(found.models, found.points, strict=True)):
        row, column = divmod(number, columns)
        left, top = _SIDE * column + 0.05, height - 1.5 * _HEAD - (_SIDE + _HEAD) * row
        place = (left / width, (top - _HEAD - _SIDE + 0.1) / height, (_SIDE - 0.1) / width, (_SIDE - 0.1) / height)
        axes = figure.add_axes(place, xticks=[], yticks=[])
        axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
        head = textwrap.fill(visible(model), _LONGEST)
        axes.set_title(head, fontsize=9 if len(head) <= _LONGEST else 7, parse_math=False, pad=3)
        for task in range(len(found.tasks)):
            x, y = points[tasks == task].T
            axes.scatter(x, y, s=16, c=colours[tasks == task], marker=_mark(task), linewidths=0, alpha=0.8)
    middle = [colours[tasks == task].mean(0) for task in range(len(found.tasks))]
    handles = [Line2D([], [], color=colour, marker=_mark(task), linestyle="") for task, colour in enumerate(middle)]
    legend = figure.legend(handles, names, loc="lower center", ncols=in_line, fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    with any_letters(), atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _mark(task: int) -> str:
    return _MARKS[task % len(_MARKS)]


def _colours(found: FeatureMap) -> NDArray[np.float64]:
    """A colour of each image, by its class: a task has a part of the circle of hues, and its classes are shades."""
    tasks, labels = np.array([(image.task, image.label) for image in found.images]).T
    counts = np.array([labels[tasks == task].max(initial=0) + 1 for task in range(len(found.tasks))])[tasks]
    hues = (tasks + 0.7 * (labels + 0.5) / counts) / len(found.tasks)
    return hsv_to_rgb(np.stack([hues, np.full(len(hues), 0.85), 0.95 - 0.2 * (labels % 3)], 1))
