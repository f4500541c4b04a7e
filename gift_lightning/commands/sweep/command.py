"""The command ``sweep``: many runs from one file, and their table."""

import argparse
from collections.abc import Sequence
from typing import Any

from gift_lightning.commands.overview import COMMANDS, PROGRAM
from gift_lightning.commands.sweep.local import Processes, check_flags
from gift_lightning.commands.sweep.trials import Sweep, read_sweep
from gift_lightning.console import plain_console, visible
from gift_lightning.errors import InputError
from gift_lightning.files import path_of
from gift_lightning.records.report.comparison import comparison_table


def main(arguments: Sequence[str]) -> None:
    """Run the trials of a sweep that are not finished, and print the table of those that are.

    Raises:
        InputError: the file is no sweep, or a trial failed.
    """
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} sweep", description=COMMANDS["sweep"], usage=f"{PROGRAM} sweep FILE [--KEY VALUE ...]"
    )
    parser.add_argument(
        "file", metavar="FILE", help="the sweep, as conf/sweeps/mini.yaml; further flags are for all runs"
    )
    options, words = parser.parse_known_args(arguments)
    check_flags(words)
    sweep, console = read_sweep(path_of(options.file)), plain_console(stderr=True)
    todo = [trial for trial in sweep.trials if not _is_finished(sweep, trial)]
    console.print(f"{len(sweep.trials)} trials in {sweep.folder}, {len(todo)} to run", soft_wrap=True)
    try:
        failed = Processes(sweep, words, lambda line: console.print(visible(line), soft_wrap=True)).run(todo)
    except KeyboardInterrupt:
        console.print("stopped: the same command goes on.", style="red")
        raise SystemExit(130) from None
    _print_table(sweep)
    if failed:
        raise InputError(
            f"{len(failed)} of {len(sweep.trials)} trials failed, the first one is {failed[0]}: see"
            f" {sweep.folder / 'logs'}, and give the same command again."
        )


def _is_finished(sweep: Sweep, trial: Any) -> bool:
    results = sweep.run(trial).read_results()
    return results is not None and bool(results["complete"])


def _print_table(sweep: Sweep) -> None:
    """Mean and standard deviation over seeds of the trials that are finished."""
    finished = []
    for trial in sweep.trials:
        results = sweep.run(trial).read_results()
        if results is not None and results["complete"]:
            finished.append({**results, "method": trial.group})
    if finished:
        plain_console().print(comparison_table(finished))
    plain_console().print(
        f"{len(finished)} of {len(sweep.trials)} trials are finished: {visible(str(sweep.folder))}", soft_wrap=True
    )
