"""``python -m gift_lightning``: the command line."""

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from gift_lightning.commands.outlet import close_outlets, open_outlets
from gift_lightning.commands.overview import COMMANDS, help_text
from gift_lightning.console import print_styled
from gift_lightning.errors import InputError, hidden_package, naming_keys, nearest

_PATIENCE = 5.0
"""Seconds for the end of a process after an error."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: its words; those of the process if not given.

    Returns:
        The exit status: 0, 2 after bad input, 130 or 143 after a signal.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    words = [word for word in arguments if word != "--debug"]
    name = next((word for word in words if not word.startswith("-")), None)
    fault = hidden_package() or _fault_of_text(words) or _fault_of_command(name, words)
    if fault:
        print_styled(f"error: {fault}", "red")
        return 2
    if name is None or words[0] in HELP:
        sys.stdout.write(help_text())
        return 0
    if "--download" in words:
        os.environ["HF_HUB_OFFLINE"] = "0"
    else:  # a run in a queue asks no hub
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with naming_keys():
        return PLAIN.get(name, _configured)(words, "--debug" in arguments)


def program() -> NoReturn:
    """The entry point of the process: run a command and exit, with status 2 also if its output cannot be written."""
    outlets, status = open_outlets(), 1
    try:
        status = main()
    except SystemExit as end:  # of argparse, for --help
        status = int(end.code or 0)
    finally:
        if status:
            _end_in_time(status)
    lost = close_outlets(outlets)
    sys.exit(status or lost)


def _end_in_time(status: int) -> None:
    """Let this rank of a run end even if its library of messages waits, at the end, for a rank that is gone."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        end = threading.Timer(_PATIENCE, os._exit, (status,))
        end.daemon = True
        end.start()


def _configured(words: list[str], debug: bool) -> int:
    with _no_search_for_garbage("gift_lightning.commands.cli"):
        from gift_lightning.commands.cli import run
    return run(words, debug)


@contextmanager
def _no_search_for_garbage(module: str) -> Iterator[None]:
    """Import a module without garbage collection, and exempt its objects from later ones: they take seconds."""
    if module in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _report(words: list[str], debug: bool) -> int:
    from gift_lightning.commands.report import main as report

    return _plain("report", report, words, debug)


def _export(words: list[str], debug: bool) -> int:
    from gift_lightning.commands.export import main as export

    return _plain("export", export, words, debug)


def _features(words: list[str], debug: bool) -> int:
    from gift_lightning.commands.features import main as features

    return _plain("features", features, words, debug)


def _demo(words: list[str], debug: bool) -> int:
    from gift_lightning.commands.demo.command import main as demo

    return _plain("demo", demo, words, debug)


def _sweep(words: list[str], debug: bool) -> int:
    from gift_lightning.commands.sweep.command import main as sweep

    return _plain("sweep", sweep, words, debug)


def _plain(name: str, command: Callable[[Sequence[str]], None], words: list[str], debug: bool) -> int:
    """A command that needs no trainer: it works on the folders of finished runs."""
    arguments = list(words)
    arguments.remove(name)
    try:
        command(arguments)
    except InputError as error:
        if debug:
            raise
        print_styled(f"error: {error}", "red")
        return 2
    return 0


PLAIN = {"report": _report, "sweep": _sweep, "features": _features, "export": _export, "demo": _demo}
"""The functions of the commands without a config. Each imports what it needs itself, after the cheap checks."""

HELP = ("-h", "--help")
"""Words in the place of a command that ask for the help of the program."""


def _fault_of_command(name: str | None, words: Sequence[str]) -> str:
    """The fault of a command line without a command or with an unknown one, as a sentence; empty without a fault."""
    names = ", ".join(COMMANDS)
    if not words:
        return f"Name a command, one of {names}; --help describes them."
    if words[0] in HELP:
        return ""
    if words[0].startswith("-") and COMMANDS.keys() & {*words}:
        return "Name the command first, as in 'fit --config FILE'."
    if name in COMMANDS:
        return ""
    if name is None:
        return "" if {*HELP} & {*words} else f"Name a command first, one of {names}."
    return f"There is no command '{name}'{nearest(name, COMMANDS)}: begin with one of {names}."


def _fault_of_text(words: Sequence[str]) -> str:
    """The fault of an argument that a config cannot hold, as some paths on disk, as a sentence; empty without one."""
    for word in words:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            return f"The argument {word[:80]!r} is not UTF-8 text: rename the file or folder."
        if "\0" in word:
            return f"The argument {word[:80]!r} has a NUL byte: remove it."
    return ""


if __name__ == "__main__":
    program()
