"""Runs that are killed at random moments and resumed: all of their files are those of a run that was left alone.

    python -m tests.e2e.kill_sweep --method GIFT --kills 10

``--method`` is a name in ``tests/e2e/test_methods.py``; methods that draw do so with the diffusion model of MiniMTIL. A
kill is SIGKILL to the training process alone: its data-loader workers are left to themselves, and the same command goes
on at once. The moments follow from ``--seed``: kinds of work in turn, and of each any of its times and any part of that
time. The script may be interrupted: called again, it goes on with the next kill. Its state and its runs are in
``--folder``, which is to be deleted when the code has changed.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any

import tests.conftest  # noqa: F401  # the settings of all tests
from gift_lightning.records.checkpoint import read_checkpoint
from tests.e2e.conftest import _command, _processes
from tests.e2e.same_files import differences
from tests.e2e.test_methods import METHODS, ORACLE, command_of
from tests.e2e.watch import RENAMING, Span, Watch, read_spans

DIFFUSION = (
    "{class_path: datamodules.DiffusionGenerator, init_args: {name: 'package:datamodules.mini.generator', steps: 4,"
    " guidance: 3.0, dtype: float32, batch_size: 8}}"
)
LIBRARIES = ["tests.e2e.watch", "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion"]
"""Imported once for all runs."""

KINDS = {
    "start of a process": ("start",),
    "any moment": ("run",),
    "training": ("step",),
    "drawing": ("drawing", "image", *(RENAMING + name for name in ("an image", "manifest.json", "image_text.csv"))),
    "evaluation": ("evaluation",),
    "end of a task": ("end of a task",),
    "checkpoint": (
        *("checkpoint in the thread", "checkpoint", "weights"),
        *(RENAMING + name for name in ("last.ckpt", "the constants", "weights")),
    ),
    "report": (
        *("report", "picture of the replay"),
        *(RENAMING + name for name in ("results.json", "accuracy_matrix.png", "replay.png", "metrics.csv")),
    ),
}
"""Kinds of moments, and the spans of ``Watch`` in which they lie."""

PATIENCE = 15.0
"""Seconds until the workers of a killed process are gone: torch's look for their parent every 5 seconds."""
TOLERANCE = 0.1
"""Seconds between two clocks: that of a run, and that of its watch."""


@dataclass(frozen=True)
class Kill:
    """A moment: ``delay`` seconds after the beginning of the ``number``-th ``span``."""

    kind: str
    span: str
    number: int
    delay: float

    def __str__(self) -> str:
        when = "" if self.span.startswith(RENAMING) else f" + {1000 * self.delay:.0f} ms"
        return f"{self.span} {self.number}{when}"


class Sweep:
    """The kills of one method.

    Args:
        method: of ``METHODS``.
        folder: of its state and its runs.
        generator: of replay images, if the method draws some.
        seed: of the moments.
    """

    def __init__(self, method: str, folder: Path, generator: str = ORACLE, seed: int = 0) -> None:
        self.folder, self.seed = folder.resolve(), seed
        self.root, self.reference, self.tmp = (self.folder / name for name in ("root", "reference", "tmp"))
        self.log, self.notes = self.folder / "log.txt", self.folder / "notes"
        self.folder.mkdir(parents=True, exist_ok=True)
        # all runs have their turn in the same folder, so that their configs are the same
        flags = ["--data.num_workers", "2", "--run.checkpoint_every", "1", "--run.root", str(self.root)]
        self.command = [*command_of(method, self.folder, generator), *flags]
        self.processes: set[int] = set()

    # --- processes ----------------------------------------------------------------------------------------------------

    def run(self, *flags: str, kill: Kill | None = None) -> int:
        """One process, to its end or its kill; returns its exit status."""
        self.notes.unlink(missing_ok=True)
        self.tmp.mkdir(exist_ok=True)
        hears, alarm = _processes.Pipe(duplex=False)
        moment = None if kill is None else (kill.span, kill.number)
        arguments = ([*self.command, *flags], str(self.log), str(self.tmp), self.notes, moment, alarm)
        process = _processes.Process(target=_watched, args=arguments)
        process.start()
        self.processes.add(process.pid)
        if kill is not None and hears in wait([hears, process.sentinel]):
            time.sleep(kill.delay)
            self.processes |= _children_of(process.pid)
            process.kill()
        process.join()
        return process.exitcode

    def whole(self) -> dict[str, list[Span]]:
        """What an undisturbed run does, by name; its files are in ``reference``."""
        notes = self.folder / "reference_notes"
        if not notes.is_file():
            for folder in (self.root, self.reference, self.tmp):
                shutil.rmtree(folder, ignore_errors=True)
            if (status := self.run()) or (left := self._leftovers()):
                raise SystemExit(f"The run that is left alone ends with {status or left}, see {self.log}.")
            self.root.rename(self.reference)
            self.notes.rename(notes)
        spans = defaultdict(list)
        for span in read_spans(notes):
            spans[span.name].append(span)
        spans["start"] = [Span("run", 0, spans["run"][0].begin, spans["begun"][0].begin)]
        return spans

    # --- kills --------------------------------------------------------------------------------------------------------

    def kills(self, number: int, spans: dict[str, list[Span]]) -> list[Kill]:
        """The moment of try ``number``; before one in the start of a process, which is a resumed one, another."""
        kinds = [kind for kind, names in KINDS.items() if any(name in spans for name in names)]
        Random(f"{self.seed} {number // len(kinds)}").shuffle(kinds)
        kind = kinds[number % len(kinds)]
        before = [self.moment(number, spans, "training")] if kind == "start of a process" else []
        return [*before, self.moment(number, spans, kind)]

    def moment(self, number: int, spans: dict[str, list[Span]], kind: str) -> Kill:
        """A random moment of a kind."""
        rng = Random(f"{self.seed} {number} {kind}")
        span = rng.choice(spans[rng.choice([name for name in KINDS[kind] if name in spans])])
        return Kill(kind, span.name, span.number, rng.uniform(0, span.end - span.begin))

    def try_out(self, kills: list[Kill]) -> dict[str, Any]:
        """Kill a run once or more, resume it and compare it; returns the line of the table."""
        for folder in (self.root, self.tmp):
            shutil.rmtree(folder, ignore_errors=True)
        self.processes.clear()
        flags: list[str] = []
        for kill in kills:
            if (status := self.run(*flags, kill=kill)) != -9:
                if status == 0 and kill.delay > 1e-3:  # this time it was faster: its end came before the moment
                    return self.try_out([replace(each, delay=each.delay / 2) for each in kills])
                raise SystemExit(f"A run that was to be killed at {kill} ends with {status}, see {self.log}.")
            flags = ["--ckpt_path", "last"]
        amid = sorted({span.name for span in read_spans(self.notes) if span.end == float("inf")} - {"run", "begun"})
        unfinished = sum(".tmp" in file.name for file in self.root.rglob(".*"))
        resumed, seconds = self._position()
        status = self.run(*flags)
        if status:
            found = [f"ends with {status}"]
        else:
            found = [*differences(self.root, self.reference, (self.root, self.root)), *self._wrong_seconds(seconds)]
        found += self._leftovers()
        line = {"moment": str(kills[-1]), "amid": amid, "unfinished": unfinished, "resumed": resumed}
        return {**asdict(kills[-1]), **line, "found": found}

    def _position(self) -> tuple[str, float]:
        """Where the run that was killed will go on, and the seconds that its checkpoint has counted."""
        file = self.root / "run" / "checkpoints" / "last.ckpt"
        if not file.is_file():
            return "the beginning", 0.0
        checkpoint = read_checkpoint(file, lazy=True)
        boundary, timing = (checkpoint["callbacks"][name] for name in ("TaskBoundary", "RunTime"))
        done = boundary["finished"] + 1
        # the replay set of the task that goes on is in its sum too
        phases = {**timing["seconds"], "replay": timing["seconds"]["replay"][:done]}
        counted = sum(map(sum, phases.values())) + timing["sums"].get("all", 0.0)
        return f"step {checkpoint['global_step']}, {done} of 3 tasks done", counted

    def _wrong_seconds(self, before: float) -> list[str]:
        """Whether ``results.json`` has the seconds up to the checkpoint and those of the last process, once each."""
        cost = json.loads((self.root / "run" / "results.json").read_text())["cost"]
        total = sum(sum(values) for name, values in cost.items() if name.endswith("_seconds"))
        last = {span.name: span for span in read_spans(self.notes)}
        least = last["report"].begin - last["begun"].begin if "begun" in last else 0.0  # nothing was left to do
        most = last["run"].end - last["run"].begin
        if before + least - TOLERANCE <= total <= before + most + TOLERANCE:
            return []
        return [f"{total:.2f} s are counted, of {before:.2f} before the kill and {least:.2f} to {most:.2f} after it"]

    def _leftovers(self) -> list[str]:
        """What the processes left outside of the run: processes, temporary files, shared memory."""
        patience = time.monotonic() + PATIENCE
        while (alive := [pid for pid in self.processes if _is_alive(pid)]) and time.monotonic() < patience:
            time.sleep(0.1)
        shared = [name for name in os.listdir("/dev/shm") if {*map(int, re.findall(r"\d+", name))} & self.processes]
        files = [str(file.relative_to(self.folder)) for file in self.tmp.rglob("*")]
        return [f"{what} is left" for what in (*(f"process {pid}" for pid in alive), *shared, *files)]


def _watched(
    argv: list[str], log: str, tmp: str, notes: Path, moment: tuple[str, int] | None, alarm: Connection
) -> None:
    tempfile.tempdir = None  # it was asked for before the environment names another one
    import gift_lightning.__main__  # noqa: F401

    Watch(notes, moment, alarm).watch()
    _command(argv, log, None, {"TMPDIR": tmp})


def _children_of(pid: int) -> set[int]:
    """The processes that a process has forked."""
    return {int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()}


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/kill_sweep"))
    arguments = parser.parse_args()
    _processes.set_forkserver_preload(LIBRARIES)
    name = re.sub(r"\W+", "_", f"{arguments.method} {arguments.seed}")
    sweep = Sweep(arguments.method, arguments.folder / name, DIFFUSION, arguments.seed)
    spans, file = sweep.whole(), sweep.folder / "kills.json"
    done: list[dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else []
    for number in range(arguments.kills):
        if number == len(done):
            done.append(sweep.try_out(sweep.kills(number, spans)))
            file.write_text(json.dumps(done, indent=1))
        line = done[number]
        state = "; ".join(line["found"]) or "every file is equal"
        amid = f"amid {', '.join(line['amid']) or 'nothing of these'}, {line['unfinished']} unfinished files"
        sys.stdout.write(
            f"{number + 1:2} {line['kind']}: {line['moment']}, {amid}; goes on from {line['resumed']}; {state}\n"
        )
        sys.stdout.flush()
    good = sum(not line["found"] for line in done[: arguments.kills])
    sys.stdout.write(f"{arguments.method}: {good} of {arguments.kills}\n")
    return int(good < arguments.kills)


if __name__ == "__main__":
    sys.exit(main())
