"""``python -m gift_lightning``: the command line."""

import atexit
import contextlib
import gc
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NoReturn

from gift_lightning.commands.outlet import close_outlets, open_outlets
from gift_lightning.stray import stray_package


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 after bad input, 130 or 143 if stopped by a signal."""
    return _run(list(sys.argv[1:] if argv is None else argv), contextlib.nullcontext())


def program() -> NoReturn:
    """Run a command in a process of its own, and leave at once when it is done.

    It waits for threads, and what was left for the end is done; but to take apart all that was imported would cost two
    seconds.
    """
    outlets = open_outlets()
    try:
        status = _run(sys.argv[1:], _without_collection())
    except SystemExit as end:  # of argparse, for --help
        status = int(end.code or 0)
    except BaseException:  # as with --debug: it is told on the usual way out
        gc.unfreeze()
        raise
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    lost = close_outlets(outlets)
    os._exit(status or lost)


def _run(arguments: list[str], imports: contextlib.AbstractContextManager[None]) -> int:
    fault = stray_package() or _fault_of_text(arguments)
    if fault:
        sys.stderr.write(f"error: {fault}\n")
        return 2
    if "--download" in arguments:
        os.environ["HF_HUB_OFFLINE"] = "0"
    else:  # a run in a queue asks no hub
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if arguments[:1] in (["report"], ["export"]):
        return _plain(*arguments)
    with imports:
        from gift_lightning.commands.cli import run  # importing the whole stack takes seconds: after the cheap checks

    return run([word for word in arguments if word != "--debug"], debug="--debug" in arguments)


def _fault_of_text(arguments: Sequence[str]) -> str:
    """Say which argument is no text that a config can hold, as a path on a disk may be; empty if all are."""
    for word in arguments:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            return f"The argument {word[:80]!r} is no text in UTF-8: rename the file or folder."
        if "\0" in word:
            return f"The argument {word[:80]!r} has a NUL byte: remove it."
    return ""


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Look for no garbage among what is imported: it is kept, and the search takes a fifth of the time."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def _plain(command: str, *arguments: str) -> int:
    """A command that needs no trainer: it works on the folders of finished runs."""
    from gift_lightning.console import tell
    from gift_lightning.errors import InputError

    try:
        if command == "report":
            from gift_lightning.commands.report import main as report

            report(arguments)
        else:
            from gift_lightning.commands.export import main as export

            export(arguments)
    except InputError as error:
        tell(f"error: {error}", "red")
        return 2
    return 0


if __name__ == "__main__":
    program()
