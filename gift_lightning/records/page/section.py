"""What a section of the page is made of: charts, pictures and tables, and a sentence on where their numbers are.

Each part has a ``title`` above it and a ``caption`` below it, both of which may be empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import altair  # a second, for which a table does not wait


@dataclass(frozen=True)
class ReportedRun:
    """A run that the page shows.

    Attributes:
        label: names it on the page, distinct among its runs.
        folder: of the run.
        results: content of ``results.json``.
        settings: those of ``config.yaml`` that can change a number, without the seed, as texts by their dotted keys;
            ``None`` if they are not known, so that the run is grouped with no other.
    """

    label: str
    folder: Path
    results: Mapping[str, Any]
    settings: Mapping[str, str] | None = None


class Key(NamedTuple):
    """An entry of a legend: what a line of this colour and pattern shows."""

    label: str
    colour: str
    pattern: int = 0
    """Of the line: 0 solid, 1 dashed, 2 dotted."""


@dataclass(frozen=True)
class Chart:
    """An interactive chart: of Altair, or a specification of Vega.

    A chart as wide as ``"container"`` fits the page, and is at most ``widest`` pixels wide, if that is not 0. ``title``
    and ``legend`` are text of the page: they break into lines where those of Vega would be cut.
    """

    chart: "altair.TopLevelMixin | Mapping[str, Any]"
    caption: str = ""
    title: str = ""
    legend: Sequence[Key] = ()
    widest: int = 0


@dataclass(frozen=True)
class Picture:
    """An image: ``data`` are the bytes of a WebP file, ``alt`` says what it shows."""

    data: bytes
    alt: str
    caption: str = ""
    title: str = ""


Tone = Literal["", "best", "soft", "up", "down", "below", "mark"]
"""How a piece of a cell looks: the best of its column, aside, a gain, a loss, on a line of its own, a mark."""

Pieces = Sequence[tuple[str, Tone]]
"""A cell of several pieces ``(text, tone)``; tables are sorted by the number with which the first one begins."""


@dataclass(frozen=True)
class Cells:
    """A table that the reader can sort: plain texts, which the page escapes; the first column is to the left.

    ``colours`` are those of dots before the rows, as in a legend; an empty one is none.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str | Pieces]]
    caption: str = ""
    title: str = ""
    colours: Sequence[str] = ()


@dataclass(frozen=True)
class Matrix:
    """Percentages in cells as dark as they are high; ``title`` is above them.

    Attributes:
        heads: of the columns.
        rows: ``(head, percentages)``; ``None`` is an empty cell.
        framed: the column of the framed cell of each row, or ``None``.
    """

    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float | None]]]
    title: str = ""
    framed: Sequence[int | None] = ()
    caption: str = ""


@dataclass(frozen=True)
class Grid:
    """Parts side by side, as many in a row as fit.

    Attributes:
        parts: charts, matrices or pictures.
        legend: of all parts.
        width: least width of a part in pixels.
        shown: number of parts before the reader asks for more.
    """

    parts: Sequence[Chart | Matrix | Picture]
    legend: Sequence[Key] = ()
    width: int = 310
    shown: int = 12


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        note: what the reader sees, and which files hold the numbers; names of files stand between backquotes.
        parts: in the order of the page.
    """

    title: str
    note: str
    parts: Sequence[Chart | Picture | Cells | Matrix | Grid] = field(default_factory=tuple)


def first_of(shown: int, total: int, what: str) -> str:
    """A sentence for the note of a section that shows the first of several runs; empty if it shows all.

    >>> first_of(6, 40, "runs")
    ' The first 6 of 40 runs are shown: a report of fewer runs shows others.'
    >>> first_of(2, 2, "runs")
    ''
    """
    return f" The first {shown} of {total} {what} are shown: a report of fewer runs shows others." * (shown < total)
