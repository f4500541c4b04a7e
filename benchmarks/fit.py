"""A whole ``fit`` beside a bare loop of the same mathematics over the same images.

::

    python -m benchmarks.fit

The floor reads, augments and normalises the images of a batch and makes the method's step in a plain loop: no trainer,
no callbacks, no loader. What ``fit`` takes beyond it is the cost of everything else between the first and the last step
of a task. Both take turns.
"""

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback
from rich.console import Console
from rich.table import Table

from benchmarks.workload import METHODS, Case, RandomReplay, RandomTask, Workload, trainer_of
from callbacks import AccuracyMatrix
from datamodules import TaskSequence
from datamodules.base import Replay, Task
from datamodules.mini import Digits
from gift_lightning.clip.source import CLIPSource

MINI = CLIPSource("package:datamodules.mini.clip")
SKIPPED = 5
"""Steps at the start that do not count."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    for table in tables(parser.parse_args(argv).device):
        Console().print(table)
    return 0


def tables(device: str = "cpu") -> list[Table]:
    """Milliseconds of a step in ``fit`` and in the bare loop, and what ``fit`` adds."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    small = Table("small CLIP of MiniMTIL, batch 64", "ms, fit", "ms, bare loop", "fit adds")
    for method in ("finetune", "gift"):
        add_row(small, method, lambda method=method: fit_mini(method, device), lambda method=method: bare_mini(method, device))
    large = Table("ViT-B/16, tensors in memory", "ms, fit", "ms, bare loop", "fit adds")
    batch, steps, precision = (64, 30, "bf16-mixed") if device == "cuda" else (4, SKIPPED + 3, "32-true")
    for method in ("finetune", "gift") if device == "cuda" else ("gift",):
        case = Case(method, batch, device=device, precision=precision)
        add_row(large, f"{method}, batch {batch}", lambda case=case: fit_large(case, steps), lambda case=case: bare_large(case, steps), 2)
    return [small, large]


def add_row(table: Table, name: str, fit: Callable[[], float], bare: Callable[[], float], turns: int = 3) -> None:
    """Let both take turns, and add their fastest times in seconds to a table."""
    taken = [(fit(), bare()) for _ in range(turns)]
    ours, floor = (1e3 * min(values) for values in zip(*taken, strict=True))
    table.add_row(name, f"{ours:.1f}", f"{floor:.1f}", f"{ours / floor - 1:.1%}")


class Clock(Callback):
    """Times from the start of one step to that of the next, in seconds."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        if torch.cuda.is_available() and torch.cuda.is_initialized() and len(self.starts) in (0, SKIPPED):
            torch.cuda.synchronize()
        self.starts.append(time.perf_counter())

    def on_train_epoch_end(self, *_: Any) -> None:
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.starts.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """The mean of the steps that count."""
        return (self.starts[-1] - self.starts[SKIPPED]) / (len(self.starts) - 1 - SKIPPED)
