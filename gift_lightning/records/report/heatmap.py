"""The accuracy matrix as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from gift_lightning.files import atomic_write
from gift_lightning.records.report.words import any_letters, cut, metrics_of, percent, run_name

_CELL = 0.62  # inches
_GAP = 0.3  # space between the zero-shot row and the matrix, in cells
_COLOURS = colormaps["YlGnBu"]
_SCALE = Normalize(0, 100)  # fixed, so that the pictures of two runs can be laid side by side
_EMPTY = "#ededed"
_INK = "#000000"
_FRAME = "#e8590c"
_LONGEST = 40  # characters of a name beside the matrix


def plot_accuracy_matrix(path: str | Path, results: Mapping[str, Any]) -> None:
    """Write the accuracy matrix as a PNG to ``path``, atomically.

    One column per task; the zero-shot row on top, set apart; below it one row per task of the sequence, with grey empty
    cells. Cells hold the accuracy in percent, the diagonal is framed, the title names the run and its Transfer, Avg and
    Last. Made for 2 to 11 tasks.

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
        matrix[i] = [np.nan if cell is None else cell for cell in row]
    zero_shot = results.get("zero_shot")

    # a figure without pyplot: no global state, no display and no style file of the user
    top = 1 + _GAP if zero_shot else 0.0
    figure = Figure(figsize=(_CELL * n + 2.9, _CELL * (n + top) + 1.9), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if zero_shot:
        _draw_row(axes, 0.0, np.array([np.nan if cell is None else cell for cell in zero_shot], dtype=float))
    for i in range(n):
        _draw_row(axes, top + i, matrix[i])
        if not np.isnan(matrix[i, i]):
            axes.add_patch(Rectangle((i, top + i), 1, 1, fill=False, edgecolor=_FRAME, linewidth=2.2, zorder=3))
    _label(axes, tasks, top)
    bar = figure.colorbar(ScalarMappable(_SCALE, _COLOURS), ax=axes, fraction=0.05, pad=0.03, aspect=28)
    bar.set_label("accuracy (%)", fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2)
    with any_letters(), atomic_write(path) as temporary:
        _title(figure, axes, results)
        # without the version of matplotlib in its metadata, the same run gives the same bytes
        figure.savefig(temporary, format="png", bbox_inches="tight", pad_inches=0.12, metadata={"Software": None})


def _draw_row(axes: Axes, y: float, row: NDArray[np.float64]) -> None:
    """One row of cells with their top edge at ``y``; NaN cells are grey and empty."""
    for j, value in enumerate(row):
        colour = _COLOURS(_SCALE(value))
        is_empty = np.isnan(value)
        face = _EMPTY if is_empty else colour
        axes.add_patch(Rectangle((j, y), 1, 1, facecolor=face, edgecolor="white", linewidth=1.2))
        if not is_empty:
            ink = _ink_on(colour)
            axes.text(j + 0.5, y + 0.52, percent(value), ha="center", va="center", fontsize=8.5, color=ink)


def _ink_on(colour: tuple[float, ...]) -> str:
    """White or black digits, whichever is easier to read on ``colour``.

    Decided by the relative luminance of WCAG 2. Its contrast ratio is even at 0.18, but on saturated blue the eye
    prefers white up to about 0.25, where the ratio is still 3.5.
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return "white" if float(np.dot(linear, (0.2126, 0.7152, 0.0722))) < 0.25 else _INK


def _label(axes: Axes, tasks: list[str], top: float) -> None:
    n, tasks = len(tasks), [cut(name, _LONGEST) for name in tasks]
    axes.set_xlim(-0.04, n + 0.04)
    axes.set_ylim(top + n + 0.04, -0.04)
    axes.set_aspect("equal")
    plain: dict[str, Any] = {"fontsize": 9, "parse_math": False}  # a dollar sign is one
    axes.set_xticks([j + 0.5 for j in range(n)], tasks, rotation=40, ha="left", rotation_mode="anchor", **plain)
    rows = [(top + i + 0.5, name) for i, name in enumerate(tasks)]
    if top:
        rows.insert(0, (0.5, "zero-shot"))
    axes.set_yticks([y for y, _ in rows], [name for _, name in rows], **plain)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("accuracy on", fontsize=9, color="#555555")
    axes.set_ylabel("after learning", fontsize=9, color="#555555")
    axes.tick_params(length=0, pad=4)
    axes.spines[:].set_visible(False)


def _title(figure: Figure, axes: Axes, results: Mapping[str, Any]) -> None:
    values = metrics_of(results)
    figures = [f"{name} {percent(values.get(name.lower()))}" for name in ("Transfer", "Avg", "Last")]
    axes.set_title("     ".join(figures), fontsize=9.5, loc="left", pad=8)
    title = figure.suptitle(run_name(results), fontsize=11.5, fontweight="bold", ha="left", parse_math=False)
    figure.draw_without_rendering()  # lays out the axes, with whose left edge the title is to line up
    title.set_x(axes.get_position().x0)
