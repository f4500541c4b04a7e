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
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback
from rich.console import Console
from rich.table import Table

from benchmarks.workload import METHODS, Case, Workload, build, trainer_of
from datamodules import TaskSequence
from datamodules.base import Replay
from datamodules.mini import Digits, Flags
from gift_lightning.clip.source import CLIPSource
from gift_lightning.methods import ContinualCLIP

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
        add_row(small, method, partial(build_mini, method), device)
    batch, steps, precision = (64, 30, "bf16-mixed") if device == "cuda" else (4, SKIPPED + 2, "32-true")
    large = Table(f"ViT-B/16, batch {batch}, {precision}", "ms, fit", "ms, bare loop", "fit adds")
    for method in ("finetune", "gift") if device == "cuda" else ("gift",):
        case = Case(method, batch, device=device, precision=precision, steps=steps)
        add_row(large, method, partial(build, case), device, precision, turns=1)
    return [small, large]


Build = Callable[[], tuple[ContinualCLIP, TaskSequence]]


def add_row(table: Table, name: str, build: Build, device: str, precision: Any = "32-true", turns: int = 3) -> None:
    """Let both ways take turns, and add their fastest steps to a table."""
    clocks: list[tuple[float, float]] = []
    for _ in range(turns):
        fit, bare = Clock(), Clock()
        trainer_of(device, precision, callbacks=[fit]).fit(*build())
        bare_loop(Workload(*build(), trainer_of(device, precision)), bare)
        clocks.append((fit.seconds, bare.seconds))
    ours, floor = (1e3 * min(values) for values in zip(*clocks, strict=True))
    table.add_row(name, f"{ours:.1f}", f"{floor:.1f}", f"{ours / floor - 1:.1%}")


def build_mini(method: str) -> tuple[ContinualCLIP, TaskSequence]:
    """A method with the small CLIP and a task of MiniMTIL, as ``conf/mini`` has them."""
    kind, arguments = METHODS[method]
    replay = MiniReplay() if method == "gift" else None
    sequence = TaskSequence([Digits(test_size=10)], batch_size=64, steps=60, replay=replay)
    return kind(clip=MINI, lr=2.5e-3, warmup_steps=12, **arguments), sequence


class MiniReplay(Replay):
    """Another task of MiniMTIL in the place of drawn images."""

    def __init__(self) -> None:
        super().__init__(batch_size=128)

    def prepare_task(self, task: int) -> None:
        flags = Flags()
        flags.setup()
        self.texts, self.pairs = flags.training_prompts(), flags.train_set


def bare_loop(workload: Workload, clock: "Clock") -> None:
    """The task in a plain loop."""
    sequence = workload.sequence
    count, size, steps = len(sequence.train_set(0)), sequence.batch_size, sequence.steps(0)
    rows = torch.cat([torch.randperm(count) for _ in range(-(-steps * size // count))])
    for step in range(steps):
        clock.on_train_batch_start()
        workload.batch = workload.batch_of(rows[step * size : (step + 1) * size].tolist())
        workload.step()
    clock.on_train_epoch_end()


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


if __name__ == "__main__":
    raise SystemExit(main())
