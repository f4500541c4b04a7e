"""A callback that ends its own process with SIGKILL, or sends it another signal, at a chosen moment."""

import os
import signal
from pathlib import Path
from typing import Any

import torch

from callbacks.task_callback import TaskCallback
from datamodules.shard import ResizedImages
from gift_lightning.records.checkpoint_writer import CheckpointWriter


class KillAt(TaskCallback):
    """Kills the process at an event of a task, before a step, or in the middle of writing a checkpoint.

    Args:
        event: name of a task event, of a method of the module, ``"setup"``, ``"step"``, ``"checkpoint"``,
            ``"constants"`` (between the second file of a checkpoint and the checkpoint), ``"saved"`` (right after a
            checkpoint is written, or while a thread writes it), ``"logged"`` (right after a row of metrics is),
            ``"draw"`` or ``"decode"``.
        number: the task, the global step, or the number of the call, the checkpoint, the second file, the row, the
            batch of drawn images or the decoded test image (from 0).
        signal_number: of SIGKILL, or of another signal.
        rank: that it is sent to; -1 for all.
    """

    INDIFFERENT = frozenset({"*"})  # the run that goes on is the same without it

    def __init__(self, event: str, number: int, signal_number: int = int(signal.SIGKILL), rank: int = -1) -> None:
        self.event, self.number, self.signal_number, self.rank = event, number, signal_number, rank

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if self.rank not in (-1, trainer.global_rank):
            self.event = "none"
        elif self.event == "setup":
            os.kill(os.getpid(), self.signal_number)
        elif self.event == "checkpoint":
            self._kill_in_checkpoint()
        elif self.event == "constants":
            self._kill_in(CheckpointWriter, "_write_constants", after=True)
        elif self.event == "saved":
            self._kill_in(trainer, "save_checkpoint", after=True)
        elif self.event == "logged":
            self._kill_in(trainer.loggers[0], "log_metrics", after=True)
        elif self.event in ("evaluate", "delta", "reconstruct_expert"):
            self._kill_in(pl_module, self.event)
        elif self.event == "draw":
            self._kill_in(trainer.datamodule.replay.generator, "generate")
        elif self.event == "decode":
            self._kill_in(ResizedImages, "__getitem__")
        elif self.event != "step":
            setattr(self, self.event, self._kill_in_task)

    def _kill_in_task(self, trainer: Any, module: Any, task: int) -> None:
        if task == self.number:
            os.kill(os.getpid(), self.signal_number)

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if self.event == "step" and trainer.global_step == self.number:
            os.kill(os.getpid(), self.signal_number)

    def _kill_in(self, owner: Any, method: str, after: bool = False) -> None:
        whole, left = getattr(owner, method), [self.number]

        def dying(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] >= 0:
                return whole(*arguments, **named)
            result = whole(*arguments, **named) if after else None
            if left[0] == -1:
                os.kill(os.getpid(), self.signal_number)
            return result if after else whole(*arguments, **named)

        setattr(owner, method, dying)

    def _kill_in_checkpoint(self) -> None:
        whole, left = torch.save, [self.number]

        def half(value: Any, path: Path) -> None:
            whole(value, path)
            if not path.name.startswith(".last.ckpt."):
                return
            if left[0] == 0:
                os.truncate(path, os.path.getsize(path) // 2)
                die()
            left[0] -= 1

        torch.save = half  # type: ignore[assignment]


class StopAt(TaskCallback):
    """Stops the trainer within a task, as a time limit does.

    Args:
        step: the global step after which it stops.
    """

    INDIFFERENT = frozenset({"*"})

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer.should_stop = trainer.global_step == self.step


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
