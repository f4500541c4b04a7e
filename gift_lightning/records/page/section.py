"""What a section of the page is made of: charts, pictures and tables, and a sentence on where their numbers are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import altair


@dataclass(frozen=True)
class ReportedRun:
    """A run that the page shows.

    Attributes:
        label: names it on the page, distinct among its runs.
        folder: of the run.
        results: content of ``results.json``.
    """

    label: str
    folder: Path
    results: Mapping[str, Any]


@dataclass(frozen=True)
class Chart:
    """An interactive chart; ``caption`` is a sentence below it."""

    chart: altair.TopLevelMixin
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """An image: ``data`` are the bytes of a PNG, JPEG or WebP file, ``alt`` says what it shows."""

    data: bytes
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Cells:
    """A table that the reader can sort: plain texts, which the page escapes; the first column is to the left."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        note: what the reader sees, and which files hold the numbers.
        parts: in the order of the page.
    """

    title: str
    note: str
    parts: Sequence[Chart | Picture | Cells] = field(default_factory=tuple)
