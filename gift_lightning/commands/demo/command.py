"""The command ``demo``: the models of finished runs on a page in the browser of this machine."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from threading import Event

from gift_lightning.commands.overview import COMMANDS, PROGRAM
from gift_lightning.console import plain_console
from gift_lightning.errors import InputError
from gift_lightning.files import path_of
from gift_lightning.records.run_folder import RunFolder


def main(arguments: Sequence[str]) -> None:
    """Serve the page of the runs, for this machine alone, until Ctrl-C.

    Raises:
        InputError: Gradio is not installed, a folder holds no finished run, or the port is in use.
    """
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} demo", description=COMMANDS["demo"])
    parser.add_argument("--runs", nargs="+", required=True, metavar="RUN", help="the folders of finished runs")
    parser.add_argument("--port", help="of the page, on 127.0.0.1; by default the first one that is free from 7860 on")
    options = parser.parse_args(arguments)
    port = _port(options.port)
    folders = {str(run): RunFolder.at(path_of(run)) for run in options.runs}
    for folder in folders.values():
        folder.finished_results()  # a folder without one is told before Gradio is asked for
    if find_spec("gradio") is None:
        raise InputError(
            'The page needs Gradio: pip install "gift-lightning[demo]", best in an environment of its own.'
        )
    from gift_lightning.commands.demo.page import serve  # with the large libraries, which the help does without
    from gift_lightning.runs.kept_models import KeptModels

    with serve({name: KeptModels(folder.path) for name, folder in folders.items()}, port) as address:
        plain_console().print(f"The page is at {address} until Ctrl-C.", soft_wrap=True)
        with suppress(KeyboardInterrupt):
            Event().wait()


def _port(text: str | None) -> int | None:
    """The number of a port; a sentence of our own instead of argparse's."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise InputError(f"--port is {text}: give a number from 1 to 65535.")
    return int(text)
