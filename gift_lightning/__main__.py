"""``python -m gift_lightning``: the command line."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from gift_lightning.commands.outlet import close_outlets, open_outlets
from gift_lightning.console import tell
from gift_lightning.errors import InputError
from gift_lightning.stray import stray_package


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 after bad input, 130 or 143 if stopped by a signal."""
    words = list(sys.argv[1:] if argv is None else argv)
    fault = stray_package() or _fault_of_text(words)
    if fault:
        sys.stderr.write(f"error: {fault}\n")
        return 2
    if "--download" in words:
        os.environ["HF_HUB_OFFLINE"] = "0"
    else:  # a run in a queue asks no hub
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    name = words[0] if words else ""
    return COMMANDS.get(name, _configured)(words)


def program() -> NoReturn:
    """Run a command in a process of its own; the exit status is 2 as well if its output cannot be written."""
    outlets = open_outlets()
    try:
        status = main()
    except SystemExit as end:  # of argparse, for --help
        status = int(end.code or 0)
    lost = close_outlets(outlets)
    sys.exit(status or lost)


def _configured(words: list[str]) -> int:
    from gift_lightning.commands.cli import run

    return run([word for word in words if word != "--debug"], debug="--debug" in words)


def _report(words: list[str]) -> int:
    from gift_lightning.commands.report import main as report

    return _plain(report, words)


def _export(words: list[str]) -> int:
    from gift_lightning.commands.export import main as export

    return _plain(export, words)


def _plain(command: Callable[[Sequence[str]], None], words: list[str]) -> int:
    """A command that needs no trainer: it works on the folders of finished runs."""
    try:
        command(words[1:])
    except InputError as error:
        tell(f"error: {error}", "red")
        return 2
    return 0


COMMANDS = {
    "fit": _configured,
    "test": _configured,
    "generate": _configured,
    "doctor": _configured,
    "report": _report,
    "export": _export,
}
"""What each command runs. Imports are inside, after the cheap checks: those of the whole stack take seconds."""


def _fault_of_text(words: Sequence[str]) -> str:
    """Say which argument is no text that a config can hold, as a path on a disk may be; empty if all are."""
    for word in words:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            return f"The argument {word[:80]!r} is no text in UTF-8: rename the file or folder."
        if "\0" in word:
            return f"The argument {word[:80]!r} has a NUL byte: remove it."
    return ""


if __name__ == "__main__":
    program()
