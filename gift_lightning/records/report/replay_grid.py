"""A picture of some replayed images with their texts."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gift_lightning.files import atomic_write
from gift_lightning.records.report.words import any_letters

_COLUMNS, _ROWS = 10, 5

SHOWN = _COLUMNS * _ROWS
"""Most images of a picture."""

_CELL, _HEAD, _TEXT, _GAP = (1.25, 1.5), 0.4, 0.3, 0.08
"""Inches: width and height for an image with its text, height for the title and for two lines, space between images."""

_ANSWER, _LETTERS = 0.1, 24
"""Height of a line with an answer in inches, and its letters."""


def plot_replay_grid(
    path: str | Path,
    pairs: Any,
    texts: Sequence[str],
    title: str,
    answers: Sequence[Sequence[tuple[str, float]]] = (),
) -> None:
    """Write images and their texts as a PNG to ``path``, atomically: ``SHOWN`` of them, evenly spread over the set.

    Args:
        path: the PNG file.
        pairs: map-style set of ``(PIL image, index into texts, or -1)``.
        texts: the distinct texts of the set.
        title: of the picture.
        answers: for each image that is shown, what the teacher says below it: ``(text, percent)``, the likeliest first.

    Raises:
        InputError: the file cannot be written, or an image does not decode.
    """
    shown = spread(len(pairs), SHOWN)
    below = _ANSWER * max(map(len, answers), default=0)
    cell = _CELL[1] + below
    width, height = _CELL[0] * _COLUMNS, cell * -(-len(shown) // _COLUMNS) + _HEAD
    figure = Figure(figsize=(width, height), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))  # axes for each image would take a second
    axes.set_axis_off()
    for position, index in enumerate(shown):
        image, number = pairs[index]
        left, top = _CELL[0] * (position % _COLUMNS), _HEAD + cell * (position // _COLUMNS)
        scale = max(image.width / (_CELL[0] - _GAP), image.height / (_CELL[1] - _TEXT - _GAP))  # pixels per inch
        middle, bottom = left + _CELL[0] / 2, top + _TEXT + image.height / scale
        extent = (middle - image.width / scale / 2, middle + image.width / scale / 2, bottom, top + _TEXT)
        # small pictures keep their pixels, large ones are smoothed
        axes.imshow(image, extent=extent, interpolation="nearest" if image.width < 96 else "antialiased")
        text = "\n".join(textwrap.wrap(texts[number] if number >= 0 else "", 19)[:2])
        axes.text(middle, top + _TEXT - 0.04, text, fontsize=6.5, ha="center", va="bottom", parse_math=False)
        if answers:
            lines = "\n".join(f"{_end_of(said)} {value:.0f} %" for said, value in answers[position])
            own = texts[number] if number >= 0 else None
            ink = "#0f7b3f" if answers[position][0][0] == own else "#c62a2f"
            axes.text(middle, bottom + 0.03, lines, fontsize=5, ha="center", va="top", color=ink, parse_math=False)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")  # which each image has set
    figure.text(0.01, 1 - 0.1 / height, title, fontsize=11, fontweight="bold", va="top", parse_math=False)
    with any_letters(), atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _end_of(text: str) -> str:
    """The end of a text, where the class of a prompt is, in one line."""
    return text if len(text) <= _LETTERS else f"…{text[1 - _LETTERS :]}"


def spread(size: int, most: int) -> list[int]:
    """Up to ``most`` numbers of ``range(size)``, evenly spread.

    >>> spread(10, 4)
    [0, 2, 5, 7]
    """
    count = min(size, most)
    return [index * size // count for index in range(count)]
