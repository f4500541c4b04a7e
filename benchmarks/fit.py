"""A whole ``fit`` beside a bare loop of the same mathematics over the same images.

::

    python -m benchmarks.fit

The floor reads, augments and normalises the images of a batch and makes the method's step in a plain loop: no trainer,
no callbacks, no loader. What ``fit`` takes beyond it is the cost of everything else between the first and the last step
of a task. Both take turns. On a CPU the median step of all turns counts, by the clock of the process, with one thread:
wall times of such short steps differ by more than is measured. On a GPU, which works behind the program, it is the mean
of the fastest turn.

With ViT-B/16 on a CPU, where a step takes seconds, two runs differ by more than that. There the share of the time is
measured that ``fit`` spends outside of the method's step, reading of images included.
"""

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from statistics import median
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
SKIPPED = 2
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
    for name in ("lightning.pytorch", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)
    small = Table("small CLIP of MiniMTIL, batch 64", "ms, fit", "ms, bare loop", "fit adds")
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device == "cpu" else threads)
    for method in ("finetune", "gift"):
        add_row(small, method, partial(build_mini, method), device)
    torch.set_num_threads(threads)
    if device == "cpu":
        large = Table("ViT-B/16, batch 4", "ms, fit", "ms, the method's step", "fit adds")
        outside = Outside()
        trainer_of(device, callbacks=[outside]).fit(*build(Case("gift", 4, steps=SKIPPED + 3)))
        whole, inside = 1e3 * outside.seconds, 1e3 * outside.inside
        large.add_row("gift", f"{whole:.1f}", f"{inside:.1f}", f"{whole / inside - 1:.2%}")
    else:
        large = Table("ViT-B/16, batch 64, bf16-mixed", "ms, fit", "ms, bare loop", "fit adds")
        for method in ("finetune", "gift"):
            case = Case(method, 64, device=device, precision="bf16-mixed", steps=30)
            add_row(large, method, partial(build, case), device, "bf16-mixed", turns=1)
    return [small, large]


Build = Callable[[], tuple[ContinualCLIP, TaskSequence]]


def add_row(table: Table, name: str, build: Build, device: str, precision: Any = "32-true", turns: int = 3) -> None:
    """Let both ways take turns, and add a row."""
    clocks: list[tuple[Clock, Clock]] = []
    for _ in range(turns):
        fit, bare = (Clock(time.process_time if device == "cpu" else time.perf_counter) for _ in range(2))
        trainer_of(device, precision, callbacks=[fit]).fit(*build())
        bare_loop(Workload(*build(), trainer_of(device, precision)), bare)
        clocks.append((fit, bare))
    if device == "cpu":
        ours, floor = (1e3 * median(step for clock in way for step in clock.steps) for way in zip(*clocks, strict=True))
    else:
        ours, floor = (1e3 * min(clock.seconds for clock in way) for way in zip(*clocks, strict=True))
    table.add_row(name, f"{ours:.1f}", f"{floor:.1f}", f"{ours / floor - 1:.1%}")


def build_mini(method: str) -> tuple[ContinualCLIP, TaskSequence]:
    """A method with the small CLIP and a task of MiniMTIL, as ``conf/mini`` has them."""
    kind, arguments = METHODS[method]
    replay = MiniReplay() if method == "gift" else None
    sequence = TaskSequence([Digits(test_size=10)], batch_size=64, steps=40, replay=replay)
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
    """Times from the start of one step to that of the next, in seconds; on a GPU of all of them together.

    Args:
        now: the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.starts: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        if len(self.starts) == SKIPPED:
            _synchronise()
        self.starts.append(self.now())

    def on_train_epoch_end(self, *_: Any) -> None:
        _synchronise()
        self.starts.append(self.now())

    @property
    def seconds(self) -> float:
        """The mean of the steps that count."""
        return (self.starts[-1] - self.starts[SKIPPED]) / (len(self.starts) - 1 - SKIPPED)

    @property
    def steps(self) -> list[float]:
        """Each of them."""
        starts = self.starts[SKIPPED:]
        return [end - start for start, end in pairwise(starts)]


class Outside(Clock):
    """Also the seconds of the method's step itself: both losses, the backward passes, the optimiser."""

    def __init__(self) -> None:
        super().__init__()
        self._inside: list[float] = []

    def on_train_start(self, trainer: Any, module: Any) -> None:
        step = trainer.strategy.optimizer_step

        def timed_step(*arguments: Any, **settings: Any) -> Any:
            began = time.perf_counter()
            result = step(*arguments, **settings)
            self._inside.append(time.perf_counter() - began)
            return result

        trainer.strategy.optimizer_step = timed_step

    @property
    def inside(self) -> float:
        """The mean of the steps that count."""
        return sum(self._inside[SKIPPED:]) / len(self._inside[SKIPPED:])


def _synchronise() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


if __name__ == "__main__":
    raise SystemExit(main())
