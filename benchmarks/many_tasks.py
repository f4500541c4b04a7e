"""Seconds and memory of a task late in a long sequence, beside one early in it: nothing may grow but what is named.

::

    python -m benchmarks.many_tasks

200 small tasks with the small CLIP that ships with the package, through the same trainer, callbacks and files as any
run: checkpoints, ``results.json``, the accuracy picture. Each method has a process and one thread of its own, two run
at a time.

The evaluation is left out: each row of the accuracy matrix has one for each task. Predictions are replaced by zeros.
"""

import argparse
import contextlib
import os
import re
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from callbacks import TaskCallback
from callbacks.method import Method
from datamodules import Task, TaskSequence
from datamodules.base import Candidates
from datamodules.mini import GeneralReference
from datamodules.shard import TestShard
from gift_lightning.clip.source import CLIPSource
from gift_lightning.console import quiet_libraries
from gift_lightning.methods import GIFT, ConDU, ContinualCLIP, Finetune, MoEAdapter
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS, Run

MARKS = (25, 50, 100, 150, 200)
BATCH, STEPS, CLASSES = 8, 2, 4
NEAR = 10  # tasks up to a mark, of which the median counts

METHODS: dict[str, tuple[type[ContinualCLIP], dict[str, Any]]] = {
    "finetune": (Finetune, {}),
    "gift": (GIFT, {}),
    "moe_adapter": (MoEAdapter, {"experts": 12, "selector_steps": 2}),
    "condu": (ConDU, {"task_id": "known"}),
}
"""Methods with their settings, by the names of their configs."""

GROWS = {
    "finetune": "nothing",
    "gift": "nothing",
    "moe_adapter": "for each task its routers in all blocks, and an auto-encoder",
    "condu": "for each task a mask of one bit a weight, and prototypes",
}
"""What a method keeps of each task by its nature."""


class Noise(Task):
    """Random pictures of four classes."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.name, self.number = f"noise {number:03d}", number
        self.class_names = [f"thing {number * CLASSES + place}" for place in range(CLASSES)]
        self.templates = ["a photo of a {}."]

    def setup(self, stage: str) -> None:
        self.train_set, self.test_set = self._pictures(BATCH * STEPS, 0), self._pictures(CLASSES, 1)

    def _pictures(self, count: int, part: int) -> Any:
        pixels = np.random.default_rng([self.number, part]).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return [(Image.fromarray(picture), place % CLASSES) for place, picture in enumerate(pixels)]

    @property
    def fingerprint(self) -> str:
        return self.name


class Meter(TaskCallback):
    """CPU seconds of each task from report to report without the evaluation, and memory in MB at its report."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.memory: list[float] = []
        self._began = self._evaluation = 0.0

    def on_sequence_start(self, trainer: Trainer, method: Method) -> None:
        self._began = time.process_time()

    def on_task_evaluate(self, trainer: Trainer, method: Method, task: int) -> None:
        self._evaluation = time.process_time() - method.evaluation_began  # type: ignore[assignment, operator]

    def on_task_report(self, trainer: Trainer, method: Method, task: int) -> None:
        now = time.process_time()
        self.seconds.append(now - self._began - self._evaluation)
        self.memory.append(_resident() / 1e6)
        self._began = now


def measured(name: str, tasks: int) -> tuple[list[float], list[float]]:
    """CPU seconds and MB of each task of a run, in this process.

    Args:
        name: of the method.
        tasks: how many.
    """
    torch.set_num_threads(1)
    quiet_libraries()
    kind, settings = METHODS[name]
    trained = type(kind.__name__, (kind,), {"evaluate": _zeros, "on_task_evaluate": _begin_evaluation})
    method = trained(clip=CLIPSource("package:datamodules.mini.clip"), lr=1e-5, warmup_steps=1, **settings)
    replay = GeneralReference(size=64, batch_size=BATCH) if kind.replays and kind is GIFT else None
    sequence = TaskSequence([Noise(number) for number in range(tasks)], BATCH, STEPS, replay=replay)
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
        settings = {"accelerator": "cpu", "enable_progress_bar": False, "callbacks": [meter], "max_epochs": tasks}
        trainer = Run(RunFolder(folder, name), "").trainer({**SEQUENCE_DEFAULTS, **settings})
        trainer.fit(method, sequence)
    return meter.seconds, meter.memory


def tables(device: str = "cpu", tasks: int = MARKS[-1], methods: Sequence[str] = tuple(METHODS)) -> list[Table]:
    """CPU seconds, and memory in MB, of a task at each mark.

    Args:
        device: the CPU, whatever is given.
        tasks: in each run.
        methods: their names.
    """
    with ProcessPoolExecutor(2, get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = dict(zip(methods, pool.map(measured, methods, [tasks] * len(methods)), strict=True))
    return [
        _table("CPU seconds of a task without its evaluation", {name: run[0] for name, run in runs.items()}, 3),
        _table("memory in MB after a task", {name: run[1] for name, run in runs.items()}, 0),
    ]


def _table(title: str, runs: dict[str, list[float]], digits: int) -> Table:
    marks = [mark for mark in MARKS if all(len(values) >= mark for values in runs.values())]
    table = Table(title=title)
    table.add_column("method")
    for mark in marks:
        table.add_column(f"task {mark}", justify="right")
    table.add_column("last / first", justify="right")
    table.add_column("what grows")
    for name, values in runs.items():
        at = [float(np.median(values[mark - NEAR : mark])) for mark in marks]
        table.add_row(name, *(f"{value:.{digits}f}" for value in at), f"{at[-1] / at[0]:.2f}", GROWS[name])
    return table


def _zeros(method: ContinualCLIP, task: Candidates, shard: TestShard) -> Tensor:
    return torch.zeros(len(shard), len(task.class_names))


def _begin_evaluation(method: ContinualCLIP, task: int) -> None:
    method.evaluation_began = time.process_time()  # type: ignore[assignment]


def _resident() -> int:
    """Bytes of memory that this process has now."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and show the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_tasks", description="Time a long sequence.")
    parser.add_argument("--tasks", type=int, default=MARKS[-1], help="in each run")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args(argv)
    for table in tables(tasks=options.tasks, methods=options.methods):
        Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
