"""The command ``features``: the space of features of a finished run, under each of its models."""

import argparse
from collections.abc import Sequence
from functools import partial

from rich.console import Console
from rich.status import Status
from rich.text import Text

from gift_lightning.commands.overview import COMMANDS, PROGRAM
from gift_lightning.console import plain_console, visible
from gift_lightning.errors import InputError
from gift_lightning.files import path_of


def main(arguments: Sequence[str]) -> None:
    """Write ``features.csv`` and ``features.png`` into the folder of a run, and say where.

    Raises:
        InputError: see ``feature_map``; or a file cannot be written.
    """
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} features", description=COMMANDS["features"])
    parser.add_argument("run", metavar="RUN", help="folder of a finished run, as in runs/quickstart")
    default = "(default: 100; fewer for many tasks, so that points stay below 20 000, but as many as classes)"
    parser.add_argument("--images", type=int, help=f"test images of each task {default}")
    parser.add_argument("--projection", default="tsne", metavar="NAME", help="tsne (the default) or umap")
    options = parser.parse_args(arguments)
    if options.images is not None and options.images < 2:
        raise InputError(f"--images is {options.images}: give at least 2 images of each task.")
    # with the large libraries, which the help does without
    from gift_lightning.records.feature_map import PROJECTIONS, write_feature_map
    from gift_lightning.records.report.feature_panels import plot_feature_map
    from gift_lightning.records.run_folder import RunFolder
    from gift_lightning.runs.features import feature_map

    # path_of is no type of the parser: argparse has sentences of its own for what a type refuses
    folder = RunFolder.at(path_of(options.run))
    console = plain_console(stderr=True)
    with console.status("") as line:
        found = feature_map(folder, options.images, partial(_report, console, line), options.projection)
    write_feature_map(folder.features_csv, found)
    shown = f"{len(found.images)} test images in the space of features of each model of {folder.path.name}"
    title = f"{shown} (one {PROJECTIONS[options.projection]})"
    plot_feature_map(folder.features_png, found, title)
    plain_console().print(f"Features: {visible(str(folder.features_png))}", soft_wrap=True)


def _report(console: Console, line: Status, text: str) -> None:
    """Show the progress: on a terminal in one line, in a log in several."""
    if console.is_terminal:
        line.update(Text(visible(text)))
    else:
        console.print(visible(text), soft_wrap=True)
