"""The command ``report``: finished runs side by side."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gift_lightning.commands.overview import COMMANDS, PROGRAM
from gift_lightning.console import plain_console
from gift_lightning.errors import InputError, nearest
from gift_lightning.files import path_of
from gift_lightning.records import published
from gift_lightning.records.report.class_tables import classes_terminal, classes_text
from gift_lightning.records.report.classes import class_report, has_predictions
from gift_lightning.records.report.side_by_side import latex_tabular, markdown, side_by_side, terminal
from gift_lightning.records.run_folder import RunFolder


def main(argv: Sequence[str]) -> None:
    """Print the table of the run folders named in ``argv``.

    Raises:
        InputError: a folder holds no finished run, or the runs cannot be compared.
    """
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} report", description=COMMANDS["report"])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, as in runs/quickstart")
    orders = " or ".join(published.BENCHMARKS)
    parser.add_argument("--published", metavar="NAME", help=f"beside published results: {orders}")
    formats = ("terminal", "markdown", "latex")
    parser.add_argument("--format", default=formats[0], help=f"one of {', '.join(formats)}")
    parser.add_argument("--classes", action="store_true", help="results of each class, by run.predictions")
    options = parser.parse_args(argv)
    if options.format not in formats:
        hint = nearest(options.format, formats)
        raise InputError(f"--format {options.format} is none of {', '.join(formats)}{hint}: give one of them.")
    if options.classes and options.published is not None:
        raise InputError("--classes is for runs alone, as published results have no classes: leave out --published.")
    # path_of is no type of the parser: argparse has sentences of its own for what a type refuses
    finished = [_finished(path_of(run)) for run in options.runs]
    if options.classes:
        _print_classes([path_of(run) for run in options.runs], finished, options.format)
        return
    comparison, console = side_by_side(finished, options.published), plain_console()
    if options.format == "terminal":
        console.print(terminal(comparison, console.width))
    else:
        text = markdown(comparison) if options.format == "markdown" else latex_tabular(comparison)
        console.print(text, soft_wrap=True)


def _print_classes(folders: Sequence[Path], finished: Sequence[dict[str, Any]], form: str) -> None:
    """The results of each class, run after run."""
    console = plain_console()
    for folder, results in zip(folders, finished, strict=True):
        if not has_predictions(folder, results):
            raise InputError(f"{folder} lacks predictions on each image: make it anew with `run.predictions` true.")
        report = class_report(results["folder"], folder, results)
        if form == "terminal":
            console.print(classes_terminal(report))
            console.print(f"Forgotten images: {RunFolder.at(folder).forgotten_png}", soft_wrap=True)
        else:
            console.print(classes_text(report, form), soft_wrap=True)


def _finished(folder: Path) -> dict[str, Any]:
    results = RunFolder.at(folder).read_results()
    if results is None:
        raise InputError(f"{folder} holds no run: name the folder with its results.json.")
    if not results["complete"]:
        progress = f"{len(results['R'])} of {len(results['tasks'])} tasks"
        raise InputError(f"{folder} has finished {progress}: wait for its end, or go on with --ckpt_path last.")
    return results | {"folder": RunFolder.at(folder).path.name}
