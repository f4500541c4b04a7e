"""The accuracy matrix as a picture."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gift_lightning.files import atomic_write
from gift_lightning.records.report.words import any_letters, cut, metrics_of, percent, run_name

_CELL = 0.62  # inches, of a cell with its number
_MOST = 20  # tasks whose names and numbers have room; with more, cells shrink
_GAP = 0.3  # space between the zero-shot row and the matrix, in cells of full size
_COLOURS = colormaps["YlGnBu"].with_extremes(bad="#ededed")  # grey cells are empty
_SCALE = Normalize(0, 100)  # fixed, so that the pictures of two runs can be laid side by side
_INK = "#000000"
_FRAME = "#e8590c"
_LINE = 40  # characters of a name in a line beside the matrix, where two lines have room


def plot_accuracy_matrix(path: str | Path, results: Mapping[str, Any]) -> None:
    """Write the accuracy matrix as a PNG to ``path``, atomically.

    One column per task; the zero-shot row on top, set apart; below it one row per task of the sequence, with grey empty
    cells. The diagonal is framed, the title names the run and its Transfer, Avg and Last. Up to 20 tasks, the cells
    hold the accuracy in percent. With more, the picture has the size of one of 20: cells have their colour alone, and
    every second, third, ... task its name; so it costs about the same for any number of tasks.

    Args:
        path: the PNG file.
        results: content of ``results.json``: needs ``method``, ``tasks`` and ``R``; uses ``seed``, ``zero_shot`` and
            ``metrics`` if present.

    Raises:
        InputError: the file cannot be written.
    """
    tasks: list[str] = list(results["tasks"])
    n = len(tasks)
    matrix = np.full((n, n), np.nan)
    for i, row in enumerate(results["R"]):
        matrix[i] = _numbers(row)
    zero_shot = results.get("zero_shot")

    # a figure without pyplot: no global state, no display and no style file of the user
    cell = _CELL * min(1, _MOST / n)
    top = 1 + _GAP * _CELL / cell if zero_shot else 0.0
    width, height, dpi = cell * n, cell * (n + top), 200 if n <= _MOST else 100  # small digits need more
    # the axes fill the figure, and what is beside them hangs out: to lay it out would take most of the time
    figure = Figure(figsize=(width, height), dpi=dpi)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    if zero_shot:
        _draw_cells(axes, 0.0, _numbers(zero_shot)[None], cell)
    _draw_cells(axes, top, matrix, cell)
    _frame_diagonal(axes, top, matrix, cell)
    _label(axes, tasks, top)
    scale = figure.add_axes((1 + 0.3 / width, 0, 0.15 / width, 1))
    bar = figure.colorbar(ScalarMappable(_SCALE, _COLOURS), cax=scale)
    bar.set_label("accuracy (%)", fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2)
    with any_letters(), atomic_write(path) as temporary:
        _title(axes, results)
        content = figure.get_tightbbox(canvas.get_renderer()).padded(0.12)  # "tight" would draw all of it once more
        # without the version of matplotlib in its metadata, the same run gives the same bytes
        figure.savefig(temporary, format="png", bbox_inches=content, metadata={"Software": None})


def _numbers(row: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array(row, dtype=np.float64)  # None becomes NaN


def _draw_cells(axes: Axes, y: float, values: NDArray[np.float64], cell: float) -> None:
    """Rows of cells ``[r, n]`` with their top edge at ``y``, ``cell`` inches wide; NaN cells are empty."""
    r, n = values.shape
    axes.pcolormesh(np.arange(n + 1), y + np.arange(r + 1), values, cmap=_COLOURS, norm=_SCALE)
    lines = [[(0, y + i), (n, y + i)] for i in range(r + 1)] + [[(j, y), (j, y + r)] for j in range(n + 1)]
    axes.add_collection(LineCollection(lines, colors="white", linewidths=1.2 * (cell / _CELL) ** 1.5))
    if n > _MOST:
        return
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = _ink_on(_COLOURS(_SCALE(value)))
            text = axes.text(j + 0.5, y + i + 0.52, percent(value), ha="center", va="center", fontsize=8.5, color=ink)
            text.set_in_layout(False)  # it lies in its cell: to measure it would take most of the time


def _frame_diagonal(axes: Axes, y: float, matrix: NDArray[np.float64], cell: float) -> None:
    known = np.flatnonzero(~np.isnan(matrix.diagonal()))
    corners = [[(i, y + i), (i + 1, y + i), (i + 1, y + i + 1), (i, y + i + 1)] for i in known]
    width = max(0.5, 2.2 * cell / _CELL)
    axes.add_collection(PolyCollection(corners, facecolors="none", edgecolors=_FRAME, linewidths=width, zorder=3))


def _ink_on(colour: tuple[float, ...]) -> str:
    """White or black digits, whichever is easier to read on ``colour``.

    Decided by the relative luminance of WCAG 2. Its contrast ratio is even at 0.18, but on saturated blue the eye
    prefers white up to about 0.25, where the ratio is still 3.5.
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return "white" if float(np.dot(linear, (0.2126, 0.7152, 0.0722))) < 0.25 else _INK


def _label(axes: Axes, tasks: list[str], top: float) -> None:
    n, every = len(tasks), -(-len(tasks) // _MOST)
    names = [(i + 0.5, textwrap.fill(cut(tasks[i], 2 * _LINE), _LINE)) for i in range(0, n, every)]
    axes.set_xlim(-0.04, n + 0.04)
    axes.set_ylim(top + n + 0.04, -0.04)
    plain: dict[str, Any] = {"fontsize": 9, "parse_math": False}  # a dollar sign is one
    places, texts = zip(*names, strict=True)
    axes.set_xticks(places, texts, rotation=40, ha="left", rotation_mode="anchor", **plain)
    rows = [(top + place, name) for place, name in names]
    if top:
        rows.insert(0, (0.5, "zero-shot"))
    axes.set_yticks([y for y, _ in rows], [name for _, name in rows], **plain)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("accuracy on", fontsize=9, color="#555555")
    axes.set_ylabel("after learning", fontsize=9, color="#555555")
    axes.tick_params(length=0, pad=4)
    axes.spines[:].set_visible(False)


def _title(axes: Axes, results: Mapping[str, Any]) -> None:
    values = metrics_of(results)
    figures = [f"{name} {percent(values.get(name.lower()))}" for name in ("Transfer", "Avg", "Last")]
    # one title, at the left edge of the axes, and a line that hangs from it: a second title would have to be laid out
    name = run_name(results)
    title = axes.set_title(name, fontsize=11.5, fontweight="bold", loc="left", pad=28, parse_math=False)
    line: dict[str, Any] = {"xytext": (0, -6), "textcoords": "offset points", "fontsize": 9.5, "va": "top"}
    axes.annotate("     ".join(figures), (0, 0), xycoords=title, **line)
