"""The state machine that turns one Lightning ``fit`` into a sequence of tasks."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from torch.optim import Optimizer

from callbacks.event_check import check_receivers
from callbacks.learned import Learned, check_trained
from callbacks.method import Method
from callbacks.task_callback import TaskCallback, callbacks_of, is_trial, method_of, sequence_of
from callbacks.trainer_check import check_length, check_others, check_trainer
from datamodules.events import TaskEvents
from datamodules.ranks import check_same, on_first_rank
from datamodules.sequence import TaskSequence
from datamodules.signals import signals_of
from gift_lightning.errors import InputError, advice
from gift_lightning.records.checkpoint import AtomicCheckpointIO
from gift_lightning.records.protocol import first_changed_task, protocol
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.seeding import seed_generators, stream_seed
from gift_lightning.tensors import save_tensors


class TaskBoundary(Callback):
    """Starts and ends tasks; epoch t of Lightning is task t.

    Events (``TaskEvents``), each sent to the datamodule, then the method, then the callbacks in their order:

    * start of t: the datamodule's ``prepare_task`` -> ``on_task_start`` -> new optimiser and schedule ->
      ``prepare_task`` of the others
    * resume into t: ``prepare_task`` alone
    * end of t: ``on_task_trained`` -> ``on_task_end`` -> ``on_task_evaluate`` -> ``on_task_report`` -> weights and
      checkpoint
    * before the first and after the last task: ``on_sequence_start``, ``on_sequence_end``

    Which tasks have started and finished is part of the checkpoint, and is never inferred from the Lightning hook that
    fired: a run killed at any moment continues with the same event that an uninterrupted run would have seen next.

    A signal does not interrupt the events at a task's end, see ``Signals``: the run leaves before them, or after the
    checkpoint that follows them.

    Args:
        folder: where weights and checkpoints go; ``None`` writes nothing.
        config: the config of the run as YAML, for each checkpoint.

    Attributes:
        preparation_seconds: how long the replay set of the task that began last took to make or read.
        writing_seconds: how long the end of the latest task waited for a checkpoint that was being written.
    """

    def __init__(self, folder: RunFolder | None = None, config: str = "") -> None:
        self.folder, self.config = folder, config
        self.opened = False
        self.started = self.finished = -1
        self.protocol: dict[str, Any] = {}
        self.stream: dict[str, Any] = {}
        self.learned = Learned()
        self.preparation_seconds = self.writing_seconds = 0.0
        self._amid_events = False

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        progress = {"opened": self.opened, "started": self.started, "finished": self.finished}
        run = {"protocol": self.protocol["id"], "file_sizes": self.protocol["file_sizes"]}
        run |= {"stream": self.stream, "config": self.config}
        return progress | run | {"checksums": self.learned.start, "amid_events": self._amid_events}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put into every checkpoint the facts about the data of all ranks, not those of the saving one alone.

        Here, and not in ``TaskSequence.state_dict``, which one rank may call: Lightning calls this hook on all ranks,
        after it has taken the state of the datamodule.
        """
        sequence = sequence_of(trainer)
        key = type(sequence).__qualname__
        if state := checkpoint.get(key, {}) | sequence.faults.collect():
            checkpoint[key] = state
        if self.finished == self.started and "loops" in checkpoint:
            # where a task ends, Lightning's loop is at different places in a run that goes on and in one that resumes
            _place_between_epochs(checkpoint, min(self.started + 1, sequence.num_tasks - 1))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take over progress before the optimiser is built, and put Lightning's loop where that progress says."""
        if trainer.testing:
            return
        state = checkpoint["callbacks"].get(self.state_key)
        if state is None or state["protocol"] != self.protocol["id"]:
            settings = advice("config", "settings")
            raise InputError(
                "The checkpoint belongs to another sequence: its tasks, data, prompts or starting weights differ from"
                f" those of the {settings}. Resume with the {settings} of that run, or start another run."
            )
        if name := first_changed_task(state.get("file_sizes", {}), self.protocol["file_sizes"]):
            raise InputError(
                f"The checkpoint belongs to a run on other images of task '{name}': files of the same names have other"
                " sizes. Restore them, or start another run."
            )
        if state.get("amid_events"):
            raise InputError(
                "The checkpoint was written while a task began or ended, as after an exception: some events would be"
                " repeated. Resume from last.ckpt."
            )
        changed = [key for key, value in self.stream.items() if state["stream"][key] != value]
        if changed:
            raise InputError(
                f"The checkpoint was written with {changed[0]} {state['stream'][changed[0]]}, the config has"
                f" {self.stream[changed[0]]}: a run continues only with the same training stream."
            )
        batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
        if batches["processed"] % trainer.accumulate_grad_batches:
            raise InputError(
                "The checkpoint was written amid accumulated batches, whose gradients are in no checkpoint. Resume from"
                " last.ckpt."
            )
        self.opened, self.started, self.finished = state["opened"], state["started"], state["finished"]
        self.learned.start = state.get("checksums", {})
        for timer in callbacks_of(trainer):
            if isinstance(timer, Timer):  # a run that a time limit stopped goes on with a new allowance
                checkpoint["callbacks"].pop(timer.state_key, None)
        sequence = sequence_of(trainer)
        method_of(trainer).task = max(self.started, 0)
        if self.finished == self.started or self._is_trained(sequence, checkpoint["global_step"]):
            # the last epoch stays open: of a loop that is done, Lightning does not even call on_train_start
            _place_between_epochs(checkpoint, min(self.started + 1, sequence.num_tasks - 1))

    # --- Lightning's hooks --------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        sequence, method = sequence_of(trainer), method_of(trainer)
        check_receivers(sequence, method, callbacks_of(trainer))
        check_trainer(trainer)
        check_others(callbacks_of(trainer), self, self.folder.checkpoints if self.folder is not None else None)
        if not is_trial(trainer):
            check_length(trainer, sequence, stage)
        if stage == "fit":
            self._amid_events = False  # an exception in an earlier fit may have left it
            # before a checkpoint is restored: the protocol names the starting weights
            self.protocol = protocol(sequence, method.clip)
            steps = [sequence.steps(task) for task in range(sequence.num_tasks)]
            self.stream = {
                "seed": sequence.seed,
                "batch size": sequence.batch_size,
                "accumulated batches": trainer.accumulate_grad_batches,
                "steps": steps,
            }
            facts = {
                "other settings": [self.config, self.stream],
                "other data, prompts or starting weights": self.protocol["id"],
                "other image files": self.protocol["file_sizes"],
            }
            check_same(trainer, facts)
            # Lightning converts the module after restoring it, which would round float64 weights to float32
            trainer.precision_plugin.convert_module(method)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        check_trained(method_of(trainer))  # before anything is written

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        sequence, method = sequence_of(trainer), method_of(trainer)
        place = [self.opened, self.started, self.finished, trainer.global_step]
        check_same(trainer, {"another checkpoint to go on from": place})
        if not self.opened:
            self._send(trainer, "on_sequence_start")
            self.opened = True
            self._save_checkpoint(trainer)
        elif self.finished == sequence.num_tasks - 1:
            self._save_weights(trainer, method, self.finished)  # these files may be damaged
            self._send(trainer, "on_sequence_end")
        if self.folder is not None:
            signals_of(trainer).at_once = False  # from here on there is a checkpoint
        if method.learning != "steps":
            self._go_without_steps(trainer, method)
        elif self.started > self.finished:
            # a checkpoint written at a task's last step: Lightning calls no hook that ends the task
            if self._is_trained(sequence, trainer.global_step):
                self._finish(trainer, method, self.started)
            else:
                self._send(trainer, "prepare_task", self.started)
        trainer.should_stop = self.finished == sequence.num_tasks - 1

    def _go_without_steps(self, trainer: Trainer, method: Method) -> None:
        """Start and end the tasks that are left, for a method that has no training loop."""
        for task in range(self.finished + 1, sequence_of(trainer).num_tasks):
            if method.learning == "analytic":
                self._begin(trainer, method, task)
            else:
                self.started = method.task = task
            self._finish(trainer, method, task)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, method_of(trainer), trainer.current_epoch)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        sequence = sequence_of(trainer)
        step = sequence.first_step(self.started) + batch_idx // trainer.accumulate_grad_batches
        loaders = trainer.train_dataloader or {}
        loaded = {loader.task for loader in loaders.values()}
        if trainer.current_epoch != self.started or trainer.global_step != step or loaded != {self.started}:
            raise RuntimeError(
                f"Lightning is at step {trainer.global_step} of epoch {trainer.current_epoch}, the sequence at step"
                f" {step} of task {self.started}, the loaders at task {loaded}."
            )
        seed = stream_seed(sequence.seed, "step", step, batch_idx, trainer.global_rank)
        seed_generators(seed, trainer.strategy.root_device)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        method_of(trainer).complete_gradient(optimizer)  # first: the other callbacks see the whole gradient

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # an epoch also ends when something stops the trainer within a task (a time limit, another callback)
        if is_trial(trainer) or self._is_trained(sequence_of(trainer), trainer.global_step):
            self._finish(trainer, method_of(trainer), self.started)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        signals_of(trainer).error = exception  # before Lightning's teardown, which may wait for the other ranks

    def _is_trained(self, sequence: TaskSequence, global_step: int) -> bool:
        return self.started >= 0 and global_step == sequence.first_step(self.started + 1)

    # --- the events ---------------------------------------------------------------------------------------------------

    def _begin(self, trainer: Trainer, method: Method, task: int) -> None:
        self._amid_events = True  # and if one fails, it stays so
        self.started = method.task = task
        began = time.perf_counter()
        sequence = sequence_of(trainer)
        sequence.prepare_task(task)
        self.preparation_seconds = time.perf_counter() - began
        self._send(trainer, "on_task_start", task)
        if task == 0:
            self.learned.begin(method)
        trainer.strategy.setup_optimizers(trainer)
        self._send(trainer, "prepare_task", task, but=sequence)
        self._amid_events = False

    def _finish(self, trainer: Trainer, method: Method, task: int) -> None:
        self._leave_if_asked(trainer, save=method.learning == "steps")
        with signals_of(trainer).held():
            self._finish_undisturbed(trainer, method, task)
        if task == sequence_of(trainer).num_tasks - 1:
            self._send(trainer, "on_sequence_end")
        else:
            self._leave_if_asked(trainer, save=False)

    def _finish_undisturbed(self, trainer: Trainer, method: Method, task: int) -> None:
        io, began = trainer.strategy.checkpoint_io, time.perf_counter()
        if isinstance(io, AtomicCheckpointIO):
            # the processes that load test images are forked, and a thread that writes is not theirs
            on_first_rank(trainer, io.wait)
        self.writing_seconds = time.perf_counter() - began
        self._amid_events = True
        self._send(trainer, "on_task_trained", task)
        self._send(trainer, "on_task_end", task)
        self.learned.check(method)
        self.finished = task
        self._send(trainer, "on_task_evaluate", task)
        self._send(trainer, "on_task_report", task)
        self._save_weights(trainer, method, task)
        self._amid_events = False
        self._save_checkpoint(trainer)

    def _leave_if_asked(self, trainer: Trainer, save: bool) -> None:
        """A safe point, with a checkpoint for what the latest one does not have."""
        signals = signals_of(trainer)
        if signals.safe_point():
            if save:
                self._save_checkpoint(trainer)
            signals.leave()

    def _save_weights(self, trainer: Trainer, method: Method, task: int) -> None:
        if self.folder is not None and trainer.is_global_zero and method.learning != "none":
            knowledge = method.knowledge()
            if knowledge:
                save_tensors(knowledge, self.folder.knowledge)
            else:
                weights, path = method.clip.model.state_dict(), self.folder.task_weights(task)
                save_tensors(weights, path, method.clip.origin.metadata)

    def _save_checkpoint(self, trainer: Trainer) -> None:
        # not through ModelCheckpoint, which skips a save when no step was made since its last one
        if self.folder is not None:
            trainer.save_checkpoint(self.folder.last_checkpoint)
            if trainer.is_global_zero:
                for earlier in self.folder.requeue_checkpoints:
                    earlier.unlink()

    def _send(self, trainer: Trainer, event: str, *task: int, but: TaskSequence | None = None) -> None:
        method = method_of(trainer)
        receivers: list[TaskEvents] = [sequence_of(trainer), method]
        for receiver in receivers:
            if receiver is not but:
                getattr(receiver, event)(*task)
        for callback in callbacks_of(trainer):
            if isinstance(callback, TaskCallback):
                getattr(callback, event)(trainer, method, *task)


def _place_between_epochs(checkpoint: dict[str, Any], epoch: int) -> None:
    """Set the saved loop state to: ``epoch`` epochs are over, the next has not begun.

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
