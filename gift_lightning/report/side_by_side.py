"""Finished runs on the same tasks, one row each: ``python -m gift_lightning report runs/a runs/b``."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from gift_lightning.errors import InputError
from gift_lightning.report.words import metrics_of, percent, run_name, short_names, zero_shot_transfer
from gift_lightning.run_folder import RunFolder

_METRICS = ("transfer", "avg", "last")
_WIDTH = 80
_CELL = 5  # "100.0"


def side_by_side(runs: Sequence[Mapping[str, Any]]) -> Group:
    """Accuracy on each task after the last one, and the metrics, of several runs; zero-shot on top.

    Args:
        runs: contents of ``results.json`` on the same tasks. The best run of each column is set in bold.

    Raises:
        InputError: the runs are not about the same tasks, data and starting weights.
    """
    first = runs[0]
    for run in runs[1:]:
        if run["protocol"]["id"] != first["protocol"]["id"]:
            raise InputError(
                f"{run_name(first)} and {run_name(run)} have other tasks, data or starting weights: compare runs of the"
                " same benchmark."
            )
    labels = _labels(runs)
    left = (
        _WIDTH
        - max(len(label) for label in [*labels, "zero-shot"])
        - sum(max(len(name), _CELL) + 1 for name in _METRICS)
    )
    width = left // len(first["tasks"]) - 1
    shown = len(first["tasks"]) if width >= _CELL else 0  # many tasks: the metrics alone
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    table.add_column("", no_wrap=True)
    heads = [*short_names(first["tasks"], max(width, _CELL))[:shown], *(name.capitalize() for name in _METRICS)]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True, min_width=_CELL)
    if first.get("zero_shot"):
        zero_shot = first["zero_shot"]
        mean = sum(zero_shot) / len(zero_shot)
        cells = [*zero_shot[:shown], zero_shot_transfer(first), mean, mean]
        table.add_row("zero-shot", *(Text(percent(cell), style="dim") for cell in cells), end_section=True)
    rows = [[*run["R"][-1][:shown], *(metrics_of(run)[name] for name in _METRICS)] for run in runs]
    for label, row in zip(labels, rows, strict=True):
        table.add_row(label, *_styled(row, rows))
    return Group("", Text("After the last task  (accuracy, %)", style="bold"), table)


def _labels(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The methods; with their seeds where the methods alone do not tell the runs apart."""
    methods = [str(run["method"]) for run in runs]
    return methods if len(set(methods)) == len(methods) else [run_name(run) for run in runs]


def _styled(row: Sequence[float | None], rows: Sequence[Sequence[float | None]]) -> list[Text]:
    """The cells of a row; the best of several rows stand out."""
    cells = []
    for column, value in enumerate(row):
        known = [other[column] for other in rows if other[column] is not None]
        best = len(rows) > 1 and value is not None and value == max(v for v in known if v is not None)
        cells.append(Text(percent(value), style="bold green" if best else ""))
    return cells


def main(argv: Sequence[str]) -> None:
    """Print the table of the run folders named in ``argv``.

    Raises:
        InputError: a folder holds no finished run, or the runs cannot be compared.
    """
    parser = argparse.ArgumentParser(prog="python -m gift_lightning report", description="Show runs side by side.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder, as in runs/quickstart")
    runs = []
    for folder in parser.parse_args(argv).runs:
        results = RunFolder.at(folder).read_results()
        if results is None:
            raise InputError(f"{folder} holds no run: name the folder with its results.json.")
        if not results["complete"]:
            told = f"{len(results['R'])} of {len(results['tasks'])} tasks"
            raise InputError(f"{folder} has finished {told}: go on with --ckpt_path last.")
        runs.append(results)
    Console().print(side_by_side(runs))
