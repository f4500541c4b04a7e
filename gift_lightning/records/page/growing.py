"""The page of a run that goes on."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import gift_lightning
from gift_lightning.console import note
from gift_lightning.records.run_folder import RunFolder

PAUSE = 300.0
"""Seconds of a run between two pages. A page takes about 3 seconds of a core: less than 1 % of the run."""

_LONGEST = 120.0  # seconds that the end of a run waits for a page


class GrowingPage:
    """Writes ``report.html`` of a run, in a process of its own: the run does not wait, and its memory stays its own.

    A run shorter than ``PAUSE`` has no page: ``report`` writes it at any time.

    Args:
        folder: of the run, whose results are written before each call.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._latest = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None

    def update(self) -> None:
        """Begin the page, if the latest is old enough and finished."""
        is_busy = self._process is not None and self._process.poll() is None
        if time.monotonic() - self._latest >= PAUSE and not is_busy:
            with contextlib.suppress(OSError):  # no memory for a process: the next task begins one
                self._begin()

    def finish(self) -> None:
        """Write the page of the finished run, if it has one already or took long enough."""
        is_short = self._process is None and time.monotonic() - self._latest < PAUSE
        if is_short and not self._folder.page.exists():
            return
        self.stop()  # it has results of before
        try:
            is_written = self._begin().wait(_LONGEST) == 0
        except (OSError, subprocess.TimeoutExpired):
            is_written = False
            self.stop()
        if not is_written:
            path = self._folder.path
            note(
                f"{self._folder.page} is not that of the finished run: python -m gift_lightning report {path} --out"
                f" {self._folder.page} writes it, or says why not."
            )

    def stop(self) -> None:
        """End the process: it writes nothing from now on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _begin(self) -> "subprocess.Popen[bytes]":
        path = self._folder.path.resolve()
        command = [
            sys.executable,
            "-m",
            "gift_lightning",
            "report",
            str(path),
            "--out",
            str(path / self._folder.page.name),
        ]
        # the package of this process, wherever it was imported from
        places = [str(Path(gift_lightning.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=environment)
        self._latest = time.monotonic()
        return self._process
