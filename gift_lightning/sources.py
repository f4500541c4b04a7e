"""Sources: the files that a run needs on this machine, their state, and their download."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from gift_lightning.errors import InputError
from gift_lightning.fetch import Report, fetch
from gift_lightning.files import path_of, reason

Status = Literal["present", "missing", "incomplete", "wrong layout", "left to fit"]
"""The state of a source, see ``Inspection``."""

ON_ITS_PAGE = "on its page"
"""The licence of data or weights whose page names it."""


@dataclass(frozen=True)
class Inspection:
    """The state of a source: the data of a task, weights, replayed images.

    Attributes:
        name: of the source.
        status: ``present`` (a run can begin), ``missing``, ``incomplete`` (files are missing or damaged), ``wrong
            layout`` (the files lie in other folders), or ``left to fit`` (the run makes it).
        detail: one sentence on the fault; empty without one.
        counts: training and test images on disk; ``None`` if not counted.
        expected: training and test images of the whole data set; ``None`` if unspecified.
        where: the file or folder of the source on this machine.
        url: of the download, or of a page about the source.
        bytes: size of the download.
        licence: of the data or the weights.
        automatic: whether ``download`` can fetch it.
        by_hand: one sentence on how to fetch it by hand.
        into: the folder that ``download`` fills, if it is not ``where``.
        to_write: about how many bytes a run itself writes in ``where``.
    """

    name: str
    status: Status
    detail: str = ""
    counts: tuple[int, int] | None = None
    expected: tuple[int, int] | None = None
    where: Path | None = None
    url: str | None = None
    bytes: int | None = None
    licence: str | None = None
    automatic: bool = False
    by_hand: str | None = None
    into: Path | None = None
    to_write: int | None = None

    @property
    def can_be_fetched(self) -> bool:
        """Whether the source is not present and ``download`` can fetch it."""
        return self.status != "present" and self.automatic


class Source(Protocol):
    """Files that a run needs on this machine, with their state and their download.

    Tasks, replays, generators and methods return theirs from ``sources()``; the command ``doctor`` shows and fetches
    these.

    Attributes:
        name: a few words for tables, as ``CLIP`` or the name of a task.
    """

    name: str

    def inspect(self) -> Inspection:
        """Its state on this machine, without the network."""

    def download(self, report: Report) -> None:
        """Fetch the files, whole or not at all; existing files stay unchanged. A broken download resumes.

        Called only if ``Inspection.can_be_fetched``.

        Args:
            report: shows one line of text on the progress.

        Raises:
            InputError: the files cannot be fetched, or have another checksum or content.
        """


class WebFile:
    """A file on the web; a ``Source``.

    Args:
        name: of the source.
        file: its path on this machine.
        url: its address.
        size: bytes of the download.
        sha256: its SHA-256, or the first digits of it.
        licence: of its content.
    """

    def __init__(self, name: str, file: str, url: str, size: int, sha256: str, licence: str = ON_ITS_PAGE) -> None:
        self.name, self.file = name, path_of(file)
        self.url, self.size, self.sha256, self.licence = url, size, sha256, licence

    def inspect(self) -> Inspection:
        """Whether the file exists."""
        if self.file.is_file():
            return Inspection(self.name, "present", where=self.file)
        return Inspection(
            self.name,
            "missing",
            f"{self.file} does not exist.",
            where=self.file,
            url=self.url,
            bytes=self.size,
            licence=self.licence,
            automatic=True,
        )

    def download(self, report: Report) -> None:
        """Fetch the file, see ``fetch``.

        Args:
            report: shows one line of text on the progress.

        Raises:
            InputError: it cannot be fetched or written, or has another checksum.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.file} cannot be written: {reason(self.file, error)}.") from error
        fetch(self.url, self.file, report, sha256=self.sha256)
