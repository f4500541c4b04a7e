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


def plot_replay_grid(path: str | Path, pairs: Any, texts: Sequence[str], title: str) -> None:
    """Write images and their texts as a PNG to ``path``, atomically: 50 of them, evenly spread over the set.

    Args:
        path: the PNG file.
        pairs: map-style set of ``(PIL image, index into texts, or -1)``.
        texts: the distinct texts of the set.
        title: of the picture.

    Raises:
        InputError: the file cannot be written, or an image does not decode.
    """
    shown = spread(len(pairs), _COLUMNS * _ROWS)
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(1.25 * _COLUMNS, 1.6 * rows + 0.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for position, index in enumerate(shown):
        image, number = pairs[index]
        axes = figure.add_subplot(rows, _COLUMNS, position + 1)
        # small pictures keep their pixels, large ones are smoothed
        axes.imshow(image, interpolation="nearest" if image.width < 96 else "antialiased")
        axes.set_axis_off()
        text = texts[number] if number >= 0 else ""
        axes.set_title("\n".join(textwrap.wrap(text, 19)[:2]), fontsize=6.5, pad=3, parse_math=False)
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left", parse_math=False)
    with any_letters(), atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def spread(size: int, most: int) -> list[int]:
    """Up to ``most`` numbers of ``range(size)``, evenly spread.

    >>> spread(10, 4)
    [0, 2, 5, 7]
    """
    count = min(size, most)
    return [index * size // count for index in range(count)]
