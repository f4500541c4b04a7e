"""Every method on 1, 2 and 4 ranks, in float64 over long tasks: equal accuracies, and weights to a bound (``same.py``).

    python -m tests.e2e.world_sizes

Stopped, it goes on with the same command. Ends with status 1 if a run is outside of its bound.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from gift_lightning.records.run_folder import RunFolder
from tests.e2e.conftest import final_weights, read_results, run_command, run_on_ranks
from tests.e2e.same import apart, assert_same_end, comparable, walked, without_key_bias
from tests.e2e.test_methods import METHODS, command_of
from tests.e2e.test_ranks import FLOAT64

SIZES = (2, 4)
"""Numbers of ranks that are compared with one."""


def run(folder: Path, launch: Callable[[list[str], Path], int], command: list[str]) -> Path:
    """Begin a run or go on with it; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    results = RunFolder.at(folder / "run").read_results()
    if results is None or not results["complete"]:
        status = launch([*command, str(folder), "--ckpt_path", "last"], folder / "log.txt")
        if status:
            raise SystemExit(f"{folder / 'log.txt'} ends with status {status}:\n{(folder / 'log.txt').read_text()}")
    return folder / "run"


def relative(ours: Path, theirs: Path) -> float:
    """The largest difference of a weight, of the largest weight of its tensor."""
    weights, expected = comparable(final_weights(ours)), comparable(final_weights(theirs))
    differences = []
    for name, tensor in expected.items():
        tensor = without_key_bias(name, tensor)
        largest = tensor.abs().max().item()
        difference = (without_key_bias(name, weights[name]) - tensor).abs().max().item()
        differences.append(difference / largest if largest else difference)
    return max(differences)


def fault(ours: Path, theirs: Path) -> str:
    """In which way two runs differ by more than their bound; empty if they do not."""
    try:
        assert_same_end(ours, theirs)
    except AssertionError as error:
        return str(error).partition("\n")[0] or "differs"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.world_sizes", description=str(__doc__).split("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/world_sizes"), help="of the runs")
    parser.add_argument("--steps", type=int, default=24, help="of each of the three tasks")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    arguments = parser.parse_args()
    console, table = Console(width=120), Table(box=MARKDOWN)
    for title in ("method", "ranks", "R", "largest difference", "99 % within, of the way", "bound"):
        table.add_column(title)
    faults = 0
    for name in arguments.methods:
        folder = arguments.folder / name.replace(", ", "_").replace(" ", "_")
        folder.mkdir(parents=True, exist_ok=True)
        command = [*command_of(name, folder), *FLOAT64, "--data.steps", str(arguments.steps), "--run.root"]
        one = run(folder / "1", run_command, command)
        for size in SIZES:
            ours = run(folder / str(size), partial(run_on_ranks, size), command)
            same = read_results(ours)["R"] == read_results(one)["R"]
            most, _ = apart(comparable(final_weights(ours)), comparable(final_weights(one)))
            problem = fault(ours, one)
            faults += bool(problem)
            cells = (f"{relative(ours, one):.1e}", f"{most / walked(one):.1e}", problem or "held")
            table.add_row(name, str(size), "equal" if same else "differs", *cells)
            console.out(name, size, *cells)
    console.print(table)
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main())
