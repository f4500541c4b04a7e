"""The command ``sweep``: many runs from one file, and their table."""

import argparse
import contextlib
from collections.abc import Sequence
from typing import Any

from gift_lightning.commands.overview import COMMANDS, PROGRAM
from gift_lightning.commands.sweep.file import TEST, Sweep, read_sweep
from gift_lightning.commands.sweep.trials import Trial
from gift_lightning.console import plain_console, visible
from gift_lightning.errors import InputError
from gift_lightning.files import path_of
from gift_lightning.records.run_lock import RunLock

LAUNCHERS = ("local", "submitit")
"""Where trials can run: processes of this machine, or jobs."""


def main(arguments: Sequence[str]) -> None:
    """Run the trials of a sweep that are not finished, and print the table of those that are.

    Raises:
        InputError: the file is no sweep, or a trial failed.
    """
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} sweep", description=COMMANDS["sweep"])
    parser.add_argument("file", metavar="FILE", help="of the sweep, as conf/sweeps/mini.yaml")
    parser.add_argument("--launcher", default=LAUNCHERS[0], help="local (default), or submitit for SLURM jobs")
    parser.add_argument("--processes", default="1", metavar="N", help="trials at a time on this machine (default: 1)")
    parser.add_argument("--select-on-test", action="store_true", help="allow a search.metric on test images")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise InputError(f"{unknown[0]} is no option of sweep: all settings of its runs are in the file.")
    if options.launcher not in LAUNCHERS:
        raise InputError(f"--launcher must be {' or '.join(LAUNCHERS)}, not '{options.launcher}'.")
    if not options.processes.isdecimal() or not int(options.processes):
        raise InputError(f"--processes must be a whole number of at least 1, not '{options.processes}'.")
    sweep = read_sweep(path_of(options.file))
    _check_choice(sweep, options.select_on_test)
    console = plain_console(stderr=True)

    def report(line: str) -> None:
        with contextlib.suppress(OSError):  # of a terminal that is gone
            console.print(visible(line), soft_wrap=True)

    report(f"{sweep.count} trials in {sweep.folder}")
    # PyTorch and the classes of the configs take seconds to import
    from gift_lightning.commands.sweep.signals import Interrupted, signals_heard
    from gift_lightning.console import quiet_libraries

    quiet_libraries()
    with RunLock(sweep.notes).held(), signals_heard() as heard:
        try:
            trials, failed = _run(sweep, _launcher(sweep, options, heard, report), report)
        except Interrupted as interrupted:
            report("Stopped. Run the same command again to continue.")
            raise SystemExit(128 + interrupted.args[0]) from None
    _print_table(sweep, trials)
    if failed:
        name = next(iter(failed))
        raise InputError(f"{len(failed)} of {len(trials)} trials failed, the first one is {name}: {failed[name]}")


def _check_choice(sweep: Sweep, select_on_test: bool) -> None:
    """Refuse a choice by test accuracy unless it is asked for twice, in the file and in the command."""
    on_test = sweep.search is not None and sweep.search.metric in TEST
    if on_test and not select_on_test:
        raise InputError(
            f"{sweep.file}: search.metric is measured on test images, and settings that are chosen by it make the test"
            " accuracy too high: leave it out to choose on validation images, or add --select-on-test."
        )
    if select_on_test and not on_test:
        raise InputError(f"--select-on-test is for a search, and {sweep.file} has no search.metric on test images.")


def _launcher(sweep: Sweep, options: argparse.Namespace, heard: list[int], report: Any) -> Any:
    from gift_lightning.commands.sweep.jobs import Jobs
    from gift_lightning.commands.sweep.local import Processes

    if options.launcher == "submitit":
        return Jobs(sweep, heard, report)
    return Processes(sweep, int(options.processes), heard, report)


def _run(sweep: Sweep, launcher: Any, report: Any) -> tuple[list[Trial], dict[str, str]]:
    """All trials of a sweep, and those that failed."""
    from gift_lightning.commands.sweep.search import searched
    from gift_lightning.commands.sweep.state import check, results_of

    if sweep.search is None:
        trials = sweep.trials(sweep.points)
        check(sweep, trials)
        todo = [trial for trial in trials if results_of(sweep, trial) is None]
        report(f"{len(todo)} of {len(trials)} trials to run")
        return trials, launcher.run(trials)
    return searched(sweep, sweep.search, launcher.run, report)


def _print_table(sweep: Sweep, trials: Sequence[Trial]) -> None:
    from gift_lightning.commands.sweep.table import table_of

    console, (table, lines) = plain_console(), table_of(sweep, trials)
    if table is not None:
        console.print(table)
    for line in lines:
        console.print(visible(line), soft_wrap=True)
