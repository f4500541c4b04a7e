"""A run of many tasks holds no more files, processes, threads and temporary files at its end than early in it.

::

    python -m tests.e2e.long_sequence --tasks 200

Small tasks with the small CLIP, through the same trainer, callbacks and files as any run: loaders with a worker,
checkpoints at each step, written by a thread, and at each boundary. Predictions are replaced by zeros, as in
``benchmarks.many_tasks``. An interrupted sequence goes on when the same command is given again, with its counts.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gift_lightning
from benchmarks.many_tasks import BATCH, Noise
from callbacks import TaskCallback
from callbacks.method import Method
from datamodules import TaskSequence
from datamodules.base import Candidates
from datamodules.shard import TestShard
from gift_lightning.clip.source import CLIPSource
from gift_lightning.methods import Finetune
from gift_lightning.records.run_folder import RunFolder

EARLY = 10
"""Tasks after which nothing may grow any more."""


class Untested(Finetune):
    """Fine-tuning whose predictions cost nothing: each row of the accuracy matrix has one for each task."""

    def evaluate(self, task: Candidates, shard: TestShard) -> Tensor:
        return torch.zeros(len(shard), len(task.class_names))


class Counter(TaskCallback):
    """Counts what the process holds at the report of each task, into a file beside the run.

    Args:
        file: JSON, a row for each task.
    """

    INDIFFERENT = frozenset({"*"})

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_task_report(self, trainer: Any, method: Method, task: int) -> None:
        rows = json.loads(self.file.read_text())[:task] if self.file.exists() else []
        self.file.write_text(json.dumps([*rows, {"process": os.getpid(), **held(Path(trainer.default_root_dir))}]))


def held(run: Path) -> dict[str, int]:
    """What this process holds: numbers of open files, processes, threads, and of files that should not stay."""
    own = str(os.getpid())
    return {
        "open files": len(os.listdir("/proc/self/fd")),
        "processes": sum(parent == own for parent in map(_parent, Path("/proc").glob("[0-9]*/stat"))),
        "threads": len(os.listdir("/proc/self/task")),
        "files in /dev/shm": sum(own in name for name in os.listdir("/dev/shm")),
        "files in $TMPDIR": len(os.listdir(tempfile.gettempdir())),
        "files in the run": len([path for path in run.rglob("*") if path.suffix != ".safetensors"]),
    }


def _parent(stat: Path) -> str:
    try:
        return stat.read_text(errors="replace").rpartition(")")[2].split()[1]
    except OSError:  # it has ended
        return ""


def run(folder: Path, tasks: int) -> list[dict[str, int]]:
    """Run or go on with a sequence of ``tasks``; returns the counts of each.

    Args:
        folder: an empty one, or one with a run that was interrupted.
        tasks: how many.
    """
    method = Untested(clip=CLIPSource("package:datamodules.mini.clip"), lr=1e-5, warmup_steps=1)
    sequence = TaskSequence([Noise(number) for number in range(tasks)], BATCH, 2, num_workers=1)
    counter = Counter(str(folder / "counts.json"))
    place = RunFolder(str(folder), "run", checkpoint_every=1)
    gift_lightning.fit(
        method, sequence, place, accelerator="cpu", callbacks=[counter], enable_progress_bar=False, logger=False
    )
    return json.loads(counter.file.read_text())


def growth(rows: Sequence[dict[str, int]], first: int = EARLY) -> dict[str, tuple[int, int]]:
    """What grew in the process that ended the run: its highest count in its ``first`` tasks, and a higher one later."""
    rows = [row for row in rows if row["process"] == rows[-1]["process"]]
    early, late = rows[:first], rows[first:] or rows
    most = {name: (max(row[name] for row in early), max(row[name] for row in late)) for name in rows[0]}
    return {name: pair for name, pair in most.items() if pair[1] > pair[0]}


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and say what grew; returns 1 if anything did."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.long_sequence")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "long_sequence")
    options = parser.parse_args(argv)
    own = options.folder / "tmp"
    own.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(own)
    torch.set_num_threads(1)
    rows = run(options.folder, options.tasks)
    print(f"after {EARLY} tasks {rows[EARLY - 1]}\nafter {len(rows)} tasks {rows[-1]}")  # noqa: T201
    print(f"grew: {growth(rows) or 'nothing'}")  # noqa: T201
    return 1 if growth(rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
