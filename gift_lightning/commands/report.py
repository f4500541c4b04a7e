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
from gift_lightning.records.report.side_by_side import latex_tabular, markdown, side_by_side, terminal
from gift_lightning.records.run_folder import RunFolder


def main(argv: Sequence[str]) -> None:
    """Print the table of the run folders named in ``argv``, or write charts of them.

    Raises:
        InputError: a folder holds no finished run, or the runs cannot be compared.
    """
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} report", description=COMMANDS["report"])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, as in runs/quickstart")
    orders = " or ".join(published.BENCHMARKS)
    parser.add_argument("--published", metavar="NAME", help=f"beside published results: {orders}")
    formats = ("terminal", "markdown", "latex", "png")
    parser.add_argument("--format", default=formats[0], help=f"one of {', '.join(formats)}")
    parser.add_argument("--out", metavar="FOLDER", help="with --format png, where the charts go")
    options = parser.parse_args(argv)
    if options.format not in formats:
        hint = nearest(options.format, formats)
        raise InputError(f"--format {options.format} is none of {', '.join(formats)}{hint}: give one of them.")
    # path_of is no type of the parser: argparse has sentences of its own for what a type refuses
    folders = [path_of(run) for run in options.runs]
    finished = [_finished(folder) for folder in folders]
    if options.format == "png" or options.out is not None:
        if options.format != "png" or options.out is None:
            raise InputError("--format png and --out FOLDER go together: give both, or neither.")
        for file in _write_pictures(folders, finished, path_of(options.out)):
            plain_console().print(f"Picture: {file}", soft_wrap=True)
        return
    comparison, console = side_by_side(finished, options.published), plain_console()
    if options.format == "terminal":
        console.print(terminal(comparison, console.width))
    else:
        text = markdown(comparison) if options.format == "markdown" else latex_tabular(comparison)
        console.print(text, soft_wrap=True)


def _write_pictures(folders: list[Path], finished: list[dict[str, Any]], out: Path) -> list[Path]:
    # Altair takes a second to import, which a table does not need
    from gift_lightning.records.page.pictures import write_pictures
    from gift_lightning.records.page.section import ReportedRun

    names = [results["folder"] for results in finished]
    labels = names if len({*names}) == len(names) else list(map(str, folders))
    if len({*labels}) < len(labels):
        raise InputError("A run is named twice: name each run once.")
    runs = [ReportedRun(*parts) for parts in zip(labels, folders, finished, strict=True)]
    files = write_pictures(runs, out)
    if not files:
        raise InputError(
            "These runs have no curve to draw: name finished runs that differ in one numeric setting, or runs with the"
            " callback HeldOutPairs (conf/trainer/held_out.yaml)."
        )
    return files


def _finished(folder: Path) -> dict[str, Any]:
    results = RunFolder.at(folder).read_results()
    if results is None:
        raise InputError(f"{folder} holds no run: name the folder with its results.json.")
    if not results["complete"]:
        progress = f"{len(results['R'])} of {len(results['tasks'])} tasks"
        raise InputError(f"{folder} has finished {progress}: wait for its end, or go on with --ckpt_path last.")
    return results | {"folder": RunFolder.at(folder).path.name}
