"""A run: its trainer, and its training, from the first task or from where its folder says that it was stopped."""

import re
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import AccuracyMatrix, RunRecord, RunTime, SequenceProgress, StepCheckpoint, TaskBoundary
from callbacks.task_callback import callback_of
from datamodules import TaskSequence
from datamodules.signals import OUT_OF_TIME, signals_of
from gift_lightning.errors import InputError, advice
from gift_lightning.files import path_of
from gift_lightning.methods import ContinualCLIP
from gift_lightning.records.checkpoint import AtomicCheckpointIO, config_in, read_checkpoint
from gift_lightning.records.metrics_csv import MetricsCSV
from gift_lightning.records.protocol import first_changed_task, protocol
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.one_writer import one_writer
from gift_lightning.runs.results import Results
from gift_lightning.runs.same_run import difference, hint
from gift_lightning.runs.stopping import stoppable
from gift_lightning.runs.trainer_settings import check_built, check_objects, check_start, products

SEQUENCE_DEFAULTS = {
    "reload_dataloaders_every_n_epochs": 1,  # each task has its own loaders
    "use_distributed_sampler": False,  # the stream slices itself
    "num_sanity_val_steps": 0,
    "limit_val_batches": 0.0,
    "enable_model_summary": False,
}
"""Arguments of Lightning's ``Trainer`` for one task in each epoch."""


@dataclass(frozen=True)
class Run:
    """A method on a sequence of tasks.

    Attributes:
        folder: where it writes.
        config: all its settings as YAML, which the folder and each checkpoint hold.
        writes: whether it leaves anything; an evaluation or a trial of one step (``fast_dev_run``) does not.
    """

    folder: RunFolder
    config: str
    writes: bool = True

    def fit(
        self, method: ContinualCLIP, sequence: TaskSequence, trainer: Trainer, checkpoint: str | None = None
    ) -> Results:
        """Begin this run or go on with it, to its end; a run that is complete already is not repeated.

        The command line and ``gift_lightning.fit`` share it.

        Args:
            method: with the CLIP that the run starts from.
            sequence: the tasks.
            trainer: of ``trainer``.
            checkpoint: a file, or ``last`` for the latest one in the folder; ``None`` to begin.

        Raises:
            InputError: see ``begun``; another process writes into the folder; the trainer was stopped before the last
                task; or another rank has ended.
            Stopped: after a signal, see ``Signals``.
        """
        with stoppable(trainer), one_writer(self.folder, trainer) if self.writes else nullcontext():
            record, checkpoint = self.begun(method, sequence, checkpoint)
            if record is not None and record["complete"]:
                return Results.of(record, self.folder.path, is_new=False)
            if checkpoint is None:
                check_start(trainer)
            with products(trainer):
                trainer.fit(method, datamodule=sequence, ckpt_path=checkpoint)
        if self.writes:
            check_end(trainer, sequence)
        record = callback_of(trainer, RunRecord).results(trainer, method)
        return Results.of(record, self.folder.path)

    def trainer(self, settings: dict[str, Any]) -> Trainer:
        """Lightning's trainer with the callbacks, plugins and loggers of a run beside those in ``settings``.

        Args:
            settings: arguments of ``Trainer``.

        Raises:
            InputError: they do not go together, or no method works with them.
        """
        users = _as_list(settings.get("callbacks"))
        if not self.writes:
            users = [callback for callback in users if not isinstance(callback, Checkpoint)]
        plugins = _as_list(settings.get("plugins"))
        given = [logger for logger in _as_list(settings.get("logger")) if not isinstance(logger, bool)]
        # Lightning takes the loggers from a trial itself; callbacks that log want some
        has_log = self.writes or settings.get("fast_dev_run")
        loggers = [MetricsCSV(str(self.folder.path)), *given] if has_log else given
        of_run = {
            "plugins": [*plugins, AtomicCheckpointIO()],
            "default_root_dir": str(self.folder.path),
            "enable_checkpointing": self.writes,
            "max_time": None,
            "logger": loggers or False,
        }
        try:
            callbacks = [*self._callbacks(settings, users), *users]
            check_objects(settings.get("strategy"), plugins, callbacks)
            trainer = Trainer(**{**settings, **of_run, "callbacks": callbacks})
        except InputError:
            raise
        except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"The trainer's settings do not go together: {reason}") from error
        check_built(trainer, settings.get("num_nodes") or 1)
        return trainer

    def _callbacks(self, settings: dict[str, Any], users: list[Callback]) -> list[Any]:
        folder = self.folder if self.writes else None
        record = RunRecord(folder, self.config)
        callbacks: list[Any] = [TaskBoundary(folder, self.config), AccuracyMatrix(folder), RunTime(), record]
        has_bar = settings.get("enable_progress_bar") is not False
        if has_bar and not any(isinstance(callback, ProgressBar) for callback in users):
            callbacks.insert(0, SequenceProgress())  # it shows the work of the boundary at the start
        if folder is not None:
            callbacks.append(StepCheckpoint(folder, settings.get("max_time")))
        return callbacks

    def begun(
        self, model: ContinualCLIP, sequence: TaskSequence, checkpoint: str | None
    ) -> tuple[dict[str, Any] | None, str | None]:
        """The state of this run in its folder: its results, and the checkpoint to go on from.

        From there Lightning restores: ``AtomicCheckpointIO`` reads the file, ``TaskBoundary.on_load_checkpoint`` says
        which task goes on, and the ``StepLoader`` of that task gives the batch after the last one.

        Args:
            model: the method, with the CLIP that the run starts from.
            sequence: the tasks; set up to evaluate if there are results to compare with.
            checkpoint: a file, or ``last`` for the latest one in the folder; ``None`` to start anew.

        Returns:
            the content of ``results.json``, ``None`` if no task was evaluated; and the path of the checkpoint, ``None``
            to begin with the first task. If the results are complete, nothing is left to do.

        Raises:
            InputError: the folder or the checkpoint is of a run with other settings or other data; or the folder holds
                an unfinished run and ``checkpoint`` is ``None``; or a file is damaged.
        """
        if checkpoint not in (None, "last"):
            checkpoint = str(path_of(checkpoint))
            self._check_checkpoint(Path(checkpoint))
        results = self.folder.read_results() if self.writes else None
        if results is not None:
            self._check_results(results, model, sequence)
            if results["complete"]:
                return results, None
        is_begun = results is not None or self.folder.latest_checkpoint is not None
        if is_begun and not checkpoint and self.writes:
            raise InputError(
                f"{self.folder.path} holds an unfinished run: continue it with --ckpt_path last, choose another"
                " --run.name, or delete the folder."  # Python always continues it
            )
        return results, self._last_checkpoint(results) if checkpoint == "last" else checkpoint

    def _last_checkpoint(self, results: dict[str, Any] | None) -> str | None:
        """The checkpoint to go on from; none if the run was stopped before the first one."""
        if (latest := self.folder.latest_checkpoint) is not None:
            self._check_checkpoint(latest)
            return str(latest)
        if results is not None and results["R"]:
            raise InputError(f"{self.folder.last_checkpoint} is missing: restore it, or run again in another folder.")
        return None

    def _check_results(self, results: dict[str, Any], model: ContinualCLIP, sequence: TaskSequence) -> None:
        """Raise an ``InputError`` if the run in the folder is not this one."""
        differing = difference(self.folder.read_config(), yaml.safe_load(self.config))
        if differing is not None:
            raise self._other_run(differing)
        sequence.prepare_data()
        sequence.setup("validate")
        before, now = results["protocol"], protocol(sequence, model.clip)
        if before["id"] != now["id"]:
            raise self._other_run("protocol (its data, prompts or starting weights have changed)")
        if task := first_changed_task(before.get("file_sizes", {}), now["file_sizes"]):
            raise self._other_run(f"content of the images of task '{task}' (files of the same names have other sizes)")

    def _check_checkpoint(self, file: Path) -> None:
        """Raise an ``InputError`` unless the file is a checkpoint of this run, by the config in it."""
        text = config_in(read_checkpoint(file, lazy=True), file)
        differing = difference(yaml.safe_load(text), yaml.safe_load(self.config)) if text else None
        if differing is not None:
            raise InputError(
                f"Checkpoint {file} is of a run with another {_named(differing)}: resume with the"
                f" {advice('config of that run', 'settings of that run')}, or start anew"
                f" {advice('without --ckpt_path', 'in another folder')}{hint(differing)}."
            )

    def _other_run(self, differing: str) -> InputError:
        return InputError(
            f"{self.folder.path} holds a run with another {_named(differing)}: choose another"
            f" {advice('--run.name', 'run')}, or delete the folder{hint(differing)}."
        )


def check_end(trainer: Trainer, sequence: TaskSequence) -> None:
    """Raise an ``InputError`` if the trainer stopped before the last task, as after ``max_time``."""
    finished = callback_of(trainer, TaskBoundary).finished + 1
    if finished < sequence.num_tasks:
        is_over = signals_of(trainer).number == OUT_OF_TIME
        raise InputError(
            f"{'`trainer.max_time` has passed: the' if is_over else 'The'} run was stopped at step"
            f" {trainer.global_step}, after {finished} of {sequence.num_tasks} tasks:"
            f" {advice('go on with --ckpt_path last', 'call fit again to go on')}."
        )


def _named(differing: str) -> str:
    """A setting that differs: by its key, and from Python by the argument, as ``tasks.0.train_size``."""
    return advice(differing, re.sub(r"^(model|data|trainer)\.|\binit_args\.", "", differing))


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
