"""The state machine that turns one Lightning ``fit`` into a sequence of tasks."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback

from callbacks.learned import Learned, check_trained
from callbacks.task_callback import Module, TaskCallback, Trainer
from gift_lightning.errors import InputError
from gift_lightning.records.protocol import first_changed_task, protocol
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.seeding import stream_seed
from gift_lightning.tensors import save_tensors


class TaskBoundary(Callback):
    """Starts and ends tasks; epoch t of Lightning is task t.

    Events, each sent to the datamodule, then the module, then the callbacks in their order:

    * start of t: the datamodule's ``prepare_task`` -> ``on_task_start`` -> new optimiser and schedule ->
      ``prepare_task`` of the others
    * resume into t: ``prepare_task`` alone
    * end of t: ``on_task_trained`` -> ``on_task_end`` -> ``on_task_evaluate`` -> ``on_task_report`` -> weights and
      checkpoint
    * before the first and after the last task: ``on_sequence_start``, ``on_sequence_end``

    Which tasks have started and finished is part of the checkpoint, and is never inferred from the Lightning hook that
    fired: a run killed at any moment continues with the same event that an uninterrupted run would have seen next.

    Args:
        folder: where weights and checkpoints go; ``None`` writes nothing.
        config: the config of the run as YAML, kept in each checkpoint.

    Attributes:
        preparation_seconds: how long the replay set of the task that began last took to make or read.
    """

    def __init__(self, folder: RunFolder | None = None, config: str = "") -> None:
        self.folder, self.config = folder, config
        self.opened = False
        self.started = self.finished = -1
        self.protocol: dict[str, Any] = {}
        self.stream: dict[str, Any] = {}
        self.learned = Learned()
        self.preparation_seconds = 0.0

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        progress = {"opened": self.opened, "started": self.started, "finished": self.finished}
        run = {"protocol": self.protocol["id"], "file_sizes": self.protocol["file_sizes"]}
        run |= {"stream": self.stream, "config": self.config}
        return progress | run | {"checksums": self.learned.start}

    def on_save_checkpoint(self, trainer: Trainer, module: Module, checkpoint: dict[str, Any]) -> None:
        """Put into every checkpoint to resume from what all ranks know of the data, not the saving one alone.

        Here, and not in ``TaskSequence.state_dict``, which one rank may call: Lightning calls this hook on all ranks,
        after it has taken the state of the datamodule.
        """
        sequence = trainer.datamodule
        key = type(sequence).__qualname__
        if state := checkpoint.get(key, {}) | sequence.faults.collect():
            checkpoint[key] = state

    def on_load_checkpoint(self, trainer: Trainer, module: Module, checkpoint: dict[str, Any]) -> None:
        """Take over progress before the optimiser is built, and put Lightning's loop where that progress says."""
        if trainer.testing:
            return
        state = checkpoint["callbacks"].get(self.state_key)
        if state is None or state["protocol"] != self.protocol["id"]:
            raise InputError(
                "The checkpoint belongs to another sequence: its tasks, data, prompts or starting weights differ from"
                " those of the config. Resume with the config of that run, or start a new run.name."
            )
        if name := first_changed_task(state.get("file_sizes", {}), self.protocol["file_sizes"]):
            raise InputError(
                f"The checkpoint belongs to a run on other images of task '{name}': files of the same names have other"
                " sizes. Restore them, or start a new run.name."
            )
        changed = [key for key, value in self.stream.items() if state["stream"][key] != value]
        if changed:
            raise InputError(
                f"The checkpoint was written with {changed[0]} {state['stream'][changed[0]]}, the config has"
                f" {self.stream[changed[0]]}: a run continues only with the same training stream."
            )
        self.opened, self.started, self.finished = state["opened"], state["started"], state["finished"]
        self.learned.start = state.get("checksums", {})
        module.task = max(self.started, 0)
        if self.finished == self.started or self._is_trained(trainer.datamodule, checkpoint["global_step"]):
            # the last epoch stays open: of a loop that is done, Lightning does not even call on_train_start
            _place_between_epochs(checkpoint, min(self.started + 1, trainer.datamodule.num_tasks - 1))

    # --- Lightning's hooks --------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        if not trainer.fast_dev_run:
            _check_trainer(trainer, stage)
        if stage == "fit":
            # before a checkpoint is restored: the protocol names the starting weights
            self.protocol = protocol(trainer.datamodule, module.clip)
            sequence = trainer.datamodule
            steps = [sequence.steps(task) for task in range(sequence.num_tasks)]
            self.stream = {
                "seed": sequence.seed,
                "batch size": sequence.batch_size,
                "accumulated batches": trainer.accumulate_grad_batches,
                "steps": steps,
            }
            # Lightning converts the module after restoring it, which would round float64 weights to float32
            trainer.precision_plugin.convert_module(module)

    def on_fit_start(self, trainer: Trainer, module: Module) -> None:
        check_trained(module)  # before anything is written

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        if not self.opened:
            self._send(trainer, "on_sequence_start")
            self.opened = True
            self._save_checkpoint(trainer)
        elif self.finished == trainer.datamodule.num_tasks - 1:
            self._save_weights(trainer, module, self.finished)  # they may be what is damaged
            self._send(trainer, "on_sequence_end")
        if not module.learns:
            for task in range(self.finished + 1, trainer.datamodule.num_tasks):
                self.started = module.task = task
                self._finish(trainer, module, task)
        elif self.started > self.finished:
            # a checkpoint written at a task's last step: Lightning calls no hook that ends the task
            if self._is_trained(trainer.datamodule, trainer.global_step):
                self._finish(trainer, module, self.started)
            else:
                self._send(trainer, "prepare_task", self.started)
        trainer.should_stop = self.finished == trainer.datamodule.num_tasks - 1

    def on_train_epoch_start(self, trainer: Trainer, module: Module) -> None:
        self._begin(trainer, module, trainer.current_epoch)

    def on_train_batch_start(self, trainer: Trainer, module: Module, batch: Any, batch_idx: int) -> None:
        step = trainer.datamodule.first_step(self.started) + batch_idx // trainer.accumulate_grad_batches
        loaded = {loader.task for loader in trainer.train_dataloader.values()}
        if trainer.current_epoch != self.started or trainer.global_step != step or loaded != {self.started}:
            raise RuntimeError(
                f"Lightning is at step {trainer.global_step} of epoch {trainer.current_epoch}, the sequence at step"
                f" {step} of task {self.started}, the loaders at task {loaded}."
            )
        torch.manual_seed(stream_seed(trainer.datamodule.seed, "step", step, batch_idx, trainer.global_rank))

    def on_train_epoch_end(self, trainer: Trainer, module: Module) -> None:
        # an epoch also ends when something stops the trainer within a task (a time limit, another callback)
        if trainer.fast_dev_run or self._is_trained(trainer.datamodule, trainer.global_step):
            self._finish(trainer, module, self.started)

    def _is_trained(self, sequence: Any, global_step: int) -> bool:
        return self.started >= 0 and global_step == sequence.first_step(self.started + 1)

    # --- the events ---------------------------------------------------------------------------------------------------

    def _begin(self, trainer: Trainer, module: Module, task: int) -> None:
        with _requeue_later():
            self._begin_undisturbed(trainer, module, task)

    def _begin_undisturbed(self, trainer: Trainer, module: Module, task: int) -> None:
        self.started = module.task = task
        began = time.perf_counter()
        trainer.datamodule.prepare_task(task)
        self.preparation_seconds = time.perf_counter() - began
        self._send(trainer, "on_task_start", task)
        if task == 0:
            self.learned.begin(module)
        trainer.strategy.setup_optimizers(trainer)
        self._send(trainer, "prepare_task", task, but=trainer.datamodule)

    def _finish(self, trainer: Trainer, module: Module, task: int) -> None:
        with _requeue_later():
            self._finish_undisturbed(trainer, module, task)

    def _finish_undisturbed(self, trainer: Trainer, module: Module, task: int) -> None:
        self._send(trainer, "on_task_trained", task)
        self._send(trainer, "on_task_end", task)
        self.learned.check(module)
        self.finished = task
        self._send(trainer, "on_task_evaluate", task)
        self._send(trainer, "on_task_report", task)
        self._save_weights(trainer, module, task)
        self._save_checkpoint(trainer)
        if task == trainer.datamodule.num_tasks - 1:
            self._send(trainer, "on_sequence_end")

    def _save_weights(self, trainer: Trainer, module: Module, task: int) -> None:
        if self.folder is not None and trainer.is_global_zero and module.learns:
            knowledge = module.knowledge()
            if knowledge:
                save_tensors(knowledge, self.folder.knowledge)
            else:
                weights, path = module.clip.model.state_dict(), self.folder.task_weights(task)
                save_tensors(weights, path, module.clip.origin.metadata)

    def _save_checkpoint(self, trainer: Trainer) -> None:
        # not through ModelCheckpoint, which skips a save when no step was made since its last one
        if self.folder is not None:
            trainer.save_checkpoint(self.folder.last_checkpoint)

    def _send(self, trainer: Trainer, event: str, *arguments: int, but: Any = None) -> None:
        for receiver in (trainer.datamodule, trainer.lightning_module):
            if receiver is not but:
                getattr(receiver, event, _ignore)(*arguments)
        for callback in trainer.callbacks:
            if isinstance(callback, TaskCallback):
                getattr(callback, event)(trainer, trainer.lightning_module, *arguments)


@contextlib.contextmanager
def _requeue_later() -> Iterator[None]:
    """Within it, SLURM's signal to save and requeue waits: a checkpoint amid the events of a task would repeat some."""
    number = getattr(signal, "SIGUSR1", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    usual = signal.signal(number, lambda *_: came.append(number))
    try:
        yield
    finally:
        signal.signal(number, usual if usual is not None else signal.SIG_DFL)
        if came:
            os.kill(os.getpid(), number)


def _check_trainer(trainer: Trainer, stage: str) -> None:
    """Raise an ``InputError`` for settings of the trainer that would cut or mix tasks."""
    if stage == "test":
        if _limited(trainer.limit_test_batches):
            raise InputError("`trainer.limit_test_batches` does not apply: every test image counts.")
        return
    if trainer.max_epochs != trainer.datamodule.num_tasks or trainer.max_steps != -1:
        raise InputError(
            "`trainer.max_epochs` and max_steps belong to the sequence, one epoch for each task: set `data.tasks` and"
            " `data.steps` instead."
        )
    if trainer.min_epochs or trainer.min_steps or _limited(trainer.limit_train_batches) or trainer.overfit_batches:
        raise InputError(
            "`trainer.min_epochs`, min_steps, limit_train_batches and overfit_batches do not apply: set `data.steps`."
        )
    if trainer.reload_dataloaders_every_n_epochs != 1:
        raise InputError("`trainer.reload_dataloaders_every_n_epochs` must be 1: each task has its own loaders.")
    if trainer._accelerator_connector.use_distributed_sampler:
        raise InputError("`trainer.use_distributed_sampler` must be false: the training stream slices itself.")


def _limited(batches: float) -> bool:
    """Whether a limit of Lightning leaves batches out: 1.0 means all of them, 1 means a single one."""
    return isinstance(batches, int) or batches != 1.0


def _ignore(*_: int) -> None:
    """A receiver that does not care for an event."""


def _place_between_epochs(checkpoint: dict[str, Any], epoch: int) -> None:
    """Make the saved loop state say: ``epoch`` epochs are over, the next has not begun.

    Left alone, Lightning skips ``on_train_epoch_start`` of the next epoch, and may carry the finished epoch's batch
    count into it, when the checkpoint was written at the last batch or inside ``on_train_epoch_end``.
    """
    loop = checkpoint["loops"]["fit_loop"]
    for scope in ("total", "current"):
        loop["epoch_progress"][scope] = dict.fromkeys(loop["epoch_progress"][scope], epoch)
    batches = loop["epoch_loop.batch_progress"]
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["total"] = dict.fromkeys(batches["total"], batches["total"]["ready"])
    batches["is_last_batch"] = False
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
    loop["state_dict"].pop("combined_loader", None)
