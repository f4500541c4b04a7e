"""What a run needs on this machine: its state here, and how it is fetched."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from gift_lightning.errors import InputError
from gift_lightning.fetch import Report, fetch
from gift_lightning.files import path_of

Status = Literal["present", "missing", "incomplete", "wrong layout", "left to fit"]

ON_ITS_PAGE = "on its page"
"""The licence of what has a page of its own that names it."""


@dataclass(frozen=True)
class Inspection:
    """The verdict on a source: the data of a task, weights, images that are replayed.

    Attributes:
        name: of the source.
        status: ``present`` (a run can begin), ``missing``, ``incomplete`` (something of it lacks), ``wrong layout`` (it
            is there, but not in the folders where it is looked for), or ``left to fit`` (which makes it).
        detail: one sentence on what is amiss; empty if nothing is.
        found: training and test images that are there, if they were counted.
        expected: those of the whole data set, if they are known beforehand.
        where: the file or folder in which it must lie.
        source: a page about it.
        bytes: size of the download.
        licence: of the data or the weights.
        automatic: whether ``download`` can fetch it.
        by_hand: one sentence on what to do if not.
        into: the folder that ``download`` fills, if it is not ``where``.
        to_write: about how many bytes a run itself writes in ``where``.
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
    into: Path | None = None
    to_write: int | None = None

    @property
    def can_be_fetched(self) -> bool:
        """Whether it is not all right here, and ``download`` can fetch it."""
        return self.status != "present" and self.automatic


class Source(Protocol):
    """Something that a run needs, and where it comes from.

    Tasks, replays, generators and methods name theirs in ``sources()``; ``doctor`` asks these and knows no other.

    Attributes:
        name: a few words for tables, as ``CLIP`` or the name of a task.
    """

    name: str

    def inspect(self) -> Inspection:
        """Its state on this machine; the network is not asked."""

    def download(self, report: Report) -> None:
        """Fetch it, whole or not at all; what is there already is left as it is. A broken download goes on.

        Called only if the inspection says that it can be fetched.

        Args:
            report: shows one line of text on how far it is.

        Raises:
            InputError: it cannot be fetched, or is not what it should be.
        """


class WebFile:
    """A file that lies at an address of the web; a ``Source``.

    Args:
        name: of the source.
        file: where it is, or is to be, on this machine.
        url: its address.
        size: bytes of the download.
        sha256: its SHA-256, or the first digits of it.
        licence: of what is in it.
    """

    def __init__(self, name: str, file: str, url: str, size: int, sha256: str, licence: str = ON_ITS_PAGE) -> None:
        self.name, self.file = name, path_of(file)
        self.url, self.size, self.sha256, self.licence = url, size, sha256, licence

    def inspect(self) -> Inspection:
        if self.file.is_file():
            return Inspection(self.name, "present", where=self.file)
        return Inspection(
            self.name,
            "missing",
            f"{self.file} does not exist.",
            where=self.file,
            source=self.url,
            bytes=self.size,
            licence=self.licence,
            automatic=True,
        )

    def download(self, report: Report) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.file} cannot be written: {error.strerror}.") from error
        fetch(self.url, self.file, report, sha256=self.sha256)
