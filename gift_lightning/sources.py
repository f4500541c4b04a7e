"""What is found of a task's data where it should lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Status = Literal["present", "missing", "incomplete", "wrong layout", "left to fit"]


@dataclass(frozen=True)
class Inspection:
    """The verdict on the data of one task.

    Attributes:
        name: of the task.
        status: ``present`` (a run can begin), ``missing``, ``incomplete`` (something of it lacks), ``wrong layout`` (it
            is there, but not in the folders where it is looked for), or ``left to fit`` (which makes it).
        detail: one sentence on what is amiss; empty if nothing is.
        found: training and test images that are there, if they were counted.
        expected: those of the whole data set, if they are known beforehand.
        where: the folder in which the data must lie.
        source: a page about the data set.
        bytes: size of the download.
        licence: of the data.
        automatic: whether ``download`` can fetch it.
        by_hand: one sentence on what to do if not.
    """

    name: str
    status: Status
    detail: str = ""
    found: tuple[int, int] | None = None
    expected: tuple[int, int] | None = None
    where: Path | None = None
    source: str | None = None
    bytes: int | None = None
    licence: str | None = None
    automatic: bool = False
    by_hand: str | None = None
