"""The table of a sweep on MiniMTIL in a file that is committed, and in the text that shows it.

::

    python -m benchmarks.mini conf/sweeps/mini_table.yaml --processes 2

Runs the trials of the sweep that are missing, as ``gift_lightning sweep`` does; adds their results to
``benchmarks/mini.json`` (a list of ``method``, ``seed``, ``protocol``, ``settings``, ``learns``, ``metrics``, ``R``,
``zero_shot`` and ``cost``, sorted), and writes the table in the README anew. Trials that are in the file are not run
again unless the settings of their method have changed. It can be interrupted at any time: the same command goes on.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import yaml
from rich.console import Console
from rich.markup import escape

from gift_lightning.commands.sweep.file import Sweep, read_sweep
from gift_lightning.commands.sweep.local import Processes
from gift_lightning.commands.sweep.signals import Interrupted, signals_heard
from gift_lightning.commands.sweep.state import check, results_of
from gift_lightning.commands.sweep.trials import SEED, Trial
from gift_lightning.errors import InputError
from gift_lightning.files import path_of, read_json, write_json, write_text
from gift_lightning.records.json_types import misfit
from gift_lightning.records.report import comparison_markdown, comparison_table
from gift_lightning.records.run_lock import RunLock
from gift_lightning.runs.same_run import decisive

ROOT = Path(__file__).resolve().parents[1]
KEYS = ("learns", "metrics", "R", "zero_shot", "cost")
"""What an entry of the file takes from the ``results.json`` of its run, beside method and seed."""
START, END = "<!-- mini-table:start -->", "<!-- mini-table:end -->"

Run = dict[str, Any]


class Entry(TypedDict):
    """The types of an entry of the file."""

    method: str
    seed: int
    protocol: str
    settings: str
    metrics: dict[str, float | None]
    R: list[list[float | None]]
    cost: dict[str, float | list[float]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, write the file and the table; 0 if every run succeeded, 1 if one failed, 2 on bad input, 130
    or 143 after a signal."""
    arguments = _parser().parse_args(argv)
    console = Console()
    try:
        sweep = read_sweep(arguments.sweep)
        trials = sweep.trials(sweep.points)
        if sweep.search is not None or not all(seed_of(trial) for trial in trials):
            raise InputError(f"{sweep.file} is no table: give seed_everything in its grid, and no search.")
        runs: list[Run] = read_json(arguments.out) if arguments.out.exists() else []
        fault = misfit(runs, list[Entry], "the list")
        if fault:
            raise InputError(f"{arguments.out} is damaged ({fault}): restore it, or delete it to make all runs anew.")
        if not arguments.readme.is_file():
            raise InputError(f"{arguments.readme} does not exist: --readme names the file with the table.")
        replace_table(arguments.readme.read_text(encoding="utf-8"), "", arguments.readme)  # fails before hours of work
        failed, number = _filled(sweep, trials, runs, arguments, console)
        if runs:
            write_table(arguments.readme, runs)
            console.print(comparison_table(runs))
    except InputError as error:
        console.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        return 2
    if number:
        console.print("Stopped. Run the same command again to continue.", style="red")
        return 128 + number
    for name, line in failed.items():
        console.print(f"[bold red]Failed:[/] {escape(name)}: {escape(line)}", soft_wrap=True)
    return 1 if failed else 0


def settings_of(trial: Trial) -> str:
    """Hash of the settings of model and data in the trial's files, of the trainer's settings that change numbers, and
    of the keys that the sweep sets, but for the seed."""
    settings: list[Any] = []
    for file in (path for word, path in zip(trial.words, trial.words[1:], strict=False) if word == "--config"):
        config = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        trainer = decisive({"trainer": config["trainer"]}) if config.get("trainer") else {}
        settings.append({key: config.get(key) for key in ("model", "data")} | ({"trainer": trainer} if trainer else {}))
    flags = [word for word in trial.words if word.startswith("--") and word != "--config"]
    settings += [word for word in flags if not word.startswith(f"--{SEED}=")]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def seed_of(trial: Trial) -> str:
    """The seed of a trial, which the grid gives; empty without one."""
    return next((word.partition("=")[2] for word in trial.words if word.startswith(f"--{SEED}=")), "")


def missing(runs: Sequence[Run], trials: Sequence[Trial]) -> list[Trial]:
    """The trials that ``runs`` lacks with today's settings."""
    done = {(run["method"], str(run["seed"]), run["settings"]) for run in runs}
    return [trial for trial in trials if (trial.group, seed_of(trial), settings_of(trial)) not in done]


def write_table(readme: Path, runs: Sequence[Run]) -> None:
    """Write the comparison of ``runs`` between the markers of ``readme``, atomically, and only if it changes."""
    old = readme.read_text(encoding="utf-8")
    new = replace_table(old, comparison_markdown(runs), readme)
    if new != old:
        write_text(readme, new)


def replace_table(text: str, table: str, path: Path) -> str:
    """``text`` with ``table`` between the two markers; ``path`` is its name in messages.

    Raises:
        InputError: the text does not have both markers once and in order.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end or START in rest or END in after:
        raise InputError(f"{path} needs the lines '{START}' and '{END}' once and in this order, around the table.")
    return f"{before}{START}\n{table}\n{END}{after}"


def _filled(
    sweep: Sweep, trials: Sequence[Trial], runs: list[Run], arguments: argparse.Namespace, console: Console
) -> tuple[dict[str, str], int]:
    """Add the missing runs to ``runs`` and to the file; those that failed, and the signal that ended them, or 0."""
    todo = missing(runs, trials)
    failed, number = dict[str, str](), 0

    def report(line: str) -> None:
        console.print(escape(line), soft_wrap=True)

    with RunLock(sweep.notes).held(), signals_heard() as heard:
        check(sweep, todo)
        report(f"{len(trials)} trials, {len(todo)} to run")
        try:
            failed = Processes(sweep, arguments.processes, heard, report).run(todo)
        except Interrupted as interrupted:
            number = interrupted.args[0]
    if arguments.out.exists():  # another table may have been written meanwhile
        runs[:] = read_json(arguments.out)
    for trial in todo:
        if (results := results_of(sweep, trial)) is not None:
            _add(runs, trial, results, arguments.out)
    if todo:
        write_json(arguments.out, runs)
    return failed, number


def _add(runs: list[Run], trial: Trial, results: Run, out: Path) -> None:
    protocol = results["protocol"]["id"]
    if any(run.get("protocol", protocol) != protocol for run in runs):
        raise InputError(
            f"{out} holds runs of another MiniMTIL (its tasks or its CLIP have changed): delete it, and all runs are"
            " made anew."
        )
    method, seed = trial.group, results["seed"]
    known = {"method": method, "seed": seed, "protocol": protocol, "settings": settings_of(trial)}
    entry = known | {key: results[key] for key in KEYS}
    runs[:] = [run for run in runs if (run["method"], run["seed"]) != (method, seed)] + [entry]
    runs.sort(key=lambda run: (run["method"], run["seed"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mini", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sweep", type=path_of, metavar="FILE", help="the sweep, as conf/sweeps/mini_table.yaml")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="runs at a time; default 1")
    parser.add_argument("--out", type=path_of, default=ROOT / "benchmarks" / "mini.json", help="the list of runs")
    parser.add_argument("--readme", type=path_of, default=ROOT / "README.md", help="the file with the table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
