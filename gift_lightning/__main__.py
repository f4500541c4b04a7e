"""``python -m gift_lightning``: the command line."""

import atexit
import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from gift_lightning.stray import stray_package


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 after bad input, 130 or 143 if stopped by a signal."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    stray = stray_package()
    if stray:
        sys.stderr.write(f"error: {stray}\n")
        return 2
    if "--download" not in arguments:  # a run in a queue asks no network; HF_HUB_OFFLINE=0 lets it
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if arguments[:1] in (["report"], ["export"]):
        return _plain(*arguments)
    return _run([word for word in arguments if word != "--debug"], debug="--debug" in arguments)


def _run(arguments: list[str], debug: bool) -> int:
    """A command of the trainer. Importing the whole stack takes seconds: after the cheap checks."""
    if "gift_lightning.cli" not in sys.modules:
        gc.disable()  # it would look for garbage among all that is imported, again and again: a quarter of the time
        importlib.import_module("gift_lightning.cli")
        gc.freeze()
        gc.enable()
    from gift_lightning.cli import run

    return run(arguments, debug)


def _plain(command: str, *arguments: str) -> int:
    """A command that needs no trainer: it works on the folders of finished runs."""
    from gift_lightning.errors import InputError

    try:
        if command == "report":
            from gift_lightning.report.side_by_side import main as report

            report(arguments)
        else:
            from gift_lightning.finished import export

            export(arguments)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def program() -> NoReturn:
    """Run a command and leave at once: to take apart all that was imported would cost two seconds."""
    status = main()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    program()
