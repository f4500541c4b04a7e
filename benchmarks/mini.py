"""The ranking table of MiniMTIL: every method with several seeds, one after the other.

::

    python -m benchmarks.mini --methods zero_shot finetune l2 gift gift+no_awc --seeds 0 1 2

A method is a file ``conf/mini/<method>.yaml``; after a ``+`` it takes overlays from ``conf/ablation``. Each run is an
ordinary ``gift_lightning fit`` in a new process; its results are added to ``benchmarks/mini.json`` (a list of
``method``, ``seed``, ``protocol``, ``settings``, ``learns``, ``metrics``, ``R``, ``zero_shot`` and ``cost``, sorted),
and the table in the README is written anew. Runs that are in the file are not repeated unless the settings of their
method have changed, and an interrupted run goes on where it stopped.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import yaml
from rich.console import Console
from rich.markup import escape

from gift_lightning.errors import InputError, nearest
from gift_lightning.files import path_of, read_json, write_json, write_text
from gift_lightning.records.json_types import misfit
from gift_lightning.records.report import comparison_markdown, comparison_table
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.same_run import decisive

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "conf" / "mini"
OVERLAYS = ROOT / "conf" / "ablation"
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
    """Run the missing runs, write the file and the README's table; 0 if every run succeeded, 1 if one failed, 2 on bad
    input."""
    arguments = _parser().parse_args(argv)
    console = Console()
    try:
        for method in arguments.methods:
            config_files(method)
        runs: list[Run] = read_json(arguments.out) if arguments.out.exists() else []
        fault = misfit(runs, list[Entry], "the list")
        if fault:
            raise InputError(f"{arguments.out} is damaged ({fault}): restore it, or delete it to make all runs anew.")
        if not arguments.readme.is_file():
            raise InputError(f"{arguments.readme} does not exist: --readme names the file with the table.")
        replace_table(arguments.readme.read_text(encoding="utf-8"), "", arguments.readme)  # fails before hours of work
        failed = _fill(runs, arguments, console)
        if runs:
            write_table(arguments.readme, runs)
            console.print(comparison_table(runs))
    except InputError as error:
        console.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        return 2
    for line in failed:
        console.print(f"[bold red]Failed:[/] {escape(line)}", soft_wrap=True)
    return 1 if failed else 0


def config_files(method: str) -> list[Path]:
    """The files of ``method`` and its overlays, as in ``gift+no_awc+oracle``.

    Raises:
        InputError: a file does not exist; the message names the existing ones.
    """
    name, *overlays = method.split("+")
    return [_file(CONFIGS, name, "method"), *(_file(OVERLAYS, overlay, "overlay") for overlay in overlays)]


def settings_of(method: str) -> str:
    """Hash of the files' settings of model and data, and of the trainer's settings that change numbers."""
    configs = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in config_files(method)]
    settings = []
    for config in configs:
        trainer = decisive({"trainer": config["trainer"]}) if config.get("trainer") else {}
        settings.append({key: config.get(key) for key in ("model", "data")} | ({"trainer": trainer} if trainer else {}))
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _file(folder: Path, name: str, kind: str) -> Path:
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise InputError(
            f"{folder.relative_to(ROOT)}/{name}.yaml does not exist{nearest(name, names)}: the {kind}s are"
            f" {', '.join(names) or 'none'}."
        )
    return folder / f"{name}.yaml"


def missing(runs: Sequence[Run], methods: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """The pairs (method, seed) that ``runs`` lacks with today's settings, in the order of the arguments, each once."""
    done = {(run["method"], run["seed"]) for run in runs if run["settings"] == settings_of(run["method"])}
    asked = dict.fromkeys((method, seed) for method in methods for seed in seeds)
    return [pair for pair in asked if pair not in done]


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


def _fill(runs: list[Run], arguments: argparse.Namespace, console: Console) -> list[str]:
    """Add the missing runs to ``runs`` and to the file; returns one sentence for each that failed."""
    todo = missing(runs, arguments.methods, arguments.seeds)
    failed = []
    for position, (method, seed) in enumerate(todo, start=1):
        console.rule(f"{method}, seed {seed} ({position} of {len(todo)})")
        try:
            results = _fit(method, seed, arguments.root)
        except InputError as error:
            failed.append(str(error))
            continue
        protocol = results["protocol"]["id"]
        if any(run.get("protocol", protocol) != protocol for run in runs):
            raise InputError(
                f"{arguments.out} holds runs of another MiniMTIL (its tasks or its CLIP have changed): delete it and"
                f" {arguments.root}, and all runs are made anew."
            )
        entry = {key: results[key] for key in KEYS}
        entry = {"method": method, "seed": seed, "protocol": protocol, "settings": settings_of(method)} | entry
        runs[:] = [run for run in runs if (run["method"], run["seed"]) != (method, seed)] + [entry]
        runs.sort(key=lambda run: (run["method"], run["seed"]))
        write_json(arguments.out, runs)  # after every run: nothing is lost when the next one is interrupted
    return failed


def _fit(method: str, seed: int, root: Path) -> Run:
    """One run, in a new process that writes to this terminal; returns its ``results.json``.

    Raises:
        InputError: the run failed or did not finish.
    """
    name = f"{method}_seed{seed}"
    command = [sys.executable, "-m", "gift_lightning", "fit"]
    command += [word for file in config_files(method) for word in ("--config", str(file))]
    command += ["--seed_everything", str(seed), "--run.root", str(root), "--run.name", name, "--ckpt_path", "last"]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status != 0:
        raise InputError(f"{method} with seed {seed} ended with status {status}: its output is above.")
    results = RunFolder(str(root), name).read_results()
    if results is None:
        raise InputError(f"{method} with seed {seed} left no results in {root / name}: start it again.")
    if not results["complete"]:
        raise InputError(f"{method} with seed {seed} was stopped before its last task: start it again to resume.")
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mini", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--methods", nargs="+", required=True, help="files in conf/mini, without .yaml, +overlays")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--out", type=_path, default=ROOT / "benchmarks" / "mini.json", help="the list of runs")
    parser.add_argument("--readme", type=_path, default=ROOT / "README.md", help="the file with the table")
    parser.add_argument("--root", type=_path, default=ROOT / "runs" / "bench", help="folder of the run folders")
    return parser


def _path(text: str) -> Path:
    return path_of(text).resolve()  # the runs start in the repository root, wherever this was called from


if __name__ == "__main__":
    sys.exit(main())
