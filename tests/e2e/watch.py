"""A process that notes what it is doing, so that it can be killed amid any of it."""

import contextlib
import functools
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from callbacks import AccuracyMatrix, RunRecord, TaskBoundary
from datamodules.replay.folder import ReplayFolder
from datamodules.replay.synthetic import SyntheticReplay
from gift_lightning.records.checkpoint import AtomicCheckpointIO
from gift_lightning.records.checkpoint_writer import CheckpointWriter

RENAMING = "before the rename of "


@dataclass(frozen=True)
class Span:
    """Something that a run did: the ``number``-th time (from 0) that it did so, and when, on the machine's clock."""

    name: str
    number: int
    begin: float
    end: float = float("inf")  # it was on when the process was killed


class Watch:
    """Notes in a file when parts of a run begin and end, in any thread of this process.

    Args:
        file: with a line for each beginning and end.
        moment: name and number of a span, whose beginning is told to ``alarm``. A rename, which takes no time, waits
            there for the kill.
        alarm: gets one message.
    """

    def __init__(self, file: Path, moment: tuple[str, int] | None = None, alarm: Connection | None = None) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._moment, self._alarm = moment, alarm
        self._counts: Counter[str] = Counter()

    def watch(self) -> None:
        """Watch the parts of a run from now on."""
        main, run_record = (sys.modules[name] for name in ("gift_lightning.__main__", "callbacks.run_record"))
        for owner, method, name in (
            (main, "main", "run"),
            (_TrainingEpochLoop, "advance", "step"),
            (AccuracyMatrix, "evaluate", "evaluation"),
            (TaskBoundary, "on_train_start", "begun"),
            (TaskBoundary, "_save_weights", "weights"),
            (AtomicCheckpointIO, "save_checkpoint", "checkpoint"),
            (CheckpointWriter, "write", "checkpoint in the thread"),
            (RunRecord, "_write", "report"),
            (run_record, "plot_replay_grid", "picture of the replay"),
            (SyntheticReplay, "_draw_together", "drawing"),
            (ReplayFolder, "write", "image"),
        ):
            self._wrap(owner, method, lambda *arguments, name=name: name)
        self._wrap(TaskBoundary, "_send", lambda boundary, trainer, event, *_: _ENDING.get(event))
        self._wrap(os, "replace", lambda source, target: RENAMING + _kind_of(Path(target).name))

    def _wrap(self, owner: Any, method: str, name_of: Callable[..., str | None]) -> None:
        whole = getattr(owner, method)

        @functools.wraps(whole)
        def watched(*arguments: Any, **named: Any) -> Any:
            name = name_of(*arguments)
            with contextlib.nullcontext() if name is None else self.span(name):
                return whole(*arguments, **named)

        setattr(owner, method, watched)

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Within it, the process does ``name``."""
        number = self._counts[name]
        self._counts[name] += 1
        self._note("+", name)
        if self._moment == (name, number):
            assert self._alarm is not None
            self._alarm.send_bytes(b"!")
            if name.startswith(RENAMING):
                time.sleep(60)  # the kill comes first
        try:
            yield
        finally:
            self._note("-", name)

    def _note(self, sign: str, name: str) -> None:
        os.write(self._file, f"{time.monotonic()} {sign} {name}\n".encode())


_ENDING = {"on_task_trained": "end of a task", "on_task_end": "end of a task"}
"""Events in which methods and callbacks average, fuse, train selectors, choose exemplars."""


def _kind_of(name: str) -> str:
    """The name of a file, less its number or its hash."""
    for kind, part in {"the constants": "_constants_", "weights": ".safetensors", "an image": ".png"}.items():
        if part in name and not name.startswith(("accuracy", "replay")):
            return kind
    return name


def read_spans(file: Path) -> list[Span]:
    """What a process has done, in the order of its beginnings."""
    spans: list[Span] = []
    running: dict[str, list[int]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for line in file.read_text().splitlines():
        when, sign, name = line.split(" ", 2)
        if sign == "+":
            running[name].append(len(spans))
            spans.append(Span(name, counts[name], float(when)))
            counts[name] += 1
        else:
            place = running[name].pop()
            spans[place] = Span(name, spans[place].number, spans[place].begin, float(when))
    return spans
