"""Standard output and standard error of the program: an error in writing is reported once, and ends no run."""

import io
import os
import sys
from typing import Any


class Outlet(io.FileIO):
    """The writing end of a standard stream, which keeps its latest error instead of raising it.

    The disk of a log file may be full, the reader of a pipe gone. Neither is a reason to lose hours of training, whose
    results are in files, or to end in a traceback.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            return len(data)


def open_outlets() -> list[Outlet]:
    """Let ``sys.stdout`` and ``sys.stderr`` write through outlets, and return these."""
    if os.name != "posix":  # a console of Windows is no file
        return []
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed, as by >&-: else the next file that is opened would be the standard output
            os.open(os.devnull, os.O_RDONLY)
    outlets = [Outlet(1, "w", closefd=False), Outlet(2, "w", closefd=False)]
    sys.stdout, sys.stderr = map(_text, outlets, (sys.stdout, sys.stderr))
    return outlets


def _text(outlet: Outlet, usual: Any) -> io.TextIOWrapper:
    encoding = usual.encoding if usual is not None else "utf-8"
    in_lines = outlet.isatty() or outlet.fileno() == 2
    return io.TextIOWrapper(io.BufferedWriter(outlet), encoding, "backslashreplace", line_buffering=in_lines)


def close_outlets(outlets: list[Outlet]) -> int:
    """Write the buffers, and report a failed stream on standard error; returns the status: 0, or 2 after an error."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for outlet, name in zip(outlets, ("standard output", "standard error"), strict=False):
        if outlet.error is not None:
            sys.stderr.write(f"error: The {name} cannot be written: {outlet.error.strerror}.\n")
            sys.stderr.flush()
    return 2 if any(outlet.error for outlet in outlets) else 0
