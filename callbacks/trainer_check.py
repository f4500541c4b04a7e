"""The parts of Lightning's trainer that no run works with, and why: strategy, precision, callbacks, length.

For every run, that of a plain ``Trainer`` too. What only a config can have is in
``gift_lightning.runs.trainer_settings``.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.plugins import DeepSpeedPrecision, FSDPPrecision, XLAPrecision
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    SingleDeviceStrategy,
    SingleDeviceXLAStrategy,
    Strategy,
    XLAStrategy,
)
from lightning.pytorch.utilities.model_helpers import is_overridden

from datamodules.sequence import TaskSequence
from gift_lightning.errors import InputError

_AVERAGES = "choose the method WeightAveraging or ZSCL, which average within a task"

CALLBACKS = {
    "BaseFinetuning": "each task has a new optimiser, without the parameters that it adds to one: derive a method whose"
    " trained_parameters() are those of the task",
    "BatchSizeFinder": "it trains before the first task, and with the batch size the images of all steps change: set"
    " `data.batch_size`",
    "EarlyStopping": "it compares losses of different tasks, and ends the run before the last one: set `data.steps`",
    "GradientAccumulationScheduler": "all tasks divide a step into the same batches: set"
    " `trainer.accumulate_grad_batches`",
    "LearningRateFinder": "it trains before the first task, and finds one rate for all tasks: set `model.lr`",
    "ModelPruning": "it replaces the weights that a method copies and compares: remove it",
    "SpikeDetection": "the loss jumps where a task begins, and no batch of a task is left out: remove it",
    "StochasticWeightAveraging": "it averages weights of different tasks, and replaces their schedules: " + _AVERAGES,
    "WeightAveraging": "it averages weights of different tasks, and no task is evaluated with them: " + _AVERAGES,
}
"""Callbacks of Lightning, by the name of their class, with which numbers would be wrong in silence, and what to do."""

_WHOLE_WEIGHTS = (DDPStrategy, SingleDeviceStrategy)
_PARTS_OF_WEIGHTS = (DeepSpeedStrategy, XLAStrategy, SingleDeviceXLAStrategy)
_HALVES = ("16-true", "bf16-true", "transformer-engine", "transformer-engine-float16")
_OF_OTHER_STRATEGIES = (DeepSpeedPrecision, FSDPPrecision, XLAPrecision)


def check_trainer(trainer: Trainer) -> None:
    """Raise an ``InputError`` for a strategy, precision or callback, wherever it comes from, that no run works with."""
    check_made_strategy(trainer.strategy)
    environment = getattr(trainer.strategy, "cluster_environment", None)
    # ranks that Lightning starts on each node would not hear whether the first one has the lock of the run folder
    is_alone = isinstance(environment, LightningEnvironment) and not environment.creates_processes_externally
    if trainer.num_nodes > 1 and is_alone:
        raise InputError(
            f"`trainer.num_nodes` is {trainer.num_nodes}, and this process does not know the others: start the run on"
            " each node with torchrun, or on all with srun."
        )
    check_precision(trainer.precision)
    if isinstance(trainer.precision_plugin, _OF_OTHER_STRATEGIES):
        raise InputError(
            f"`trainer.plugins` has {type(trainer.precision_plugin).__name__}, which belongs to another strategy: set"
            " `trainer.precision` instead."
        )
    for callback in cast(Any, trainer).callbacks:
        _check_callback(callback)


def check_made_strategy(strategy: Strategy) -> None:
    """Raise an ``InputError`` for a strategy that no run works with."""
    check_strategy(type(strategy), getattr(strategy, "_start_method", "popen"), type(strategy).__name__)
    if getattr(strategy, "_model_averaging_period", None) is not None:
        raise InputError("`trainer.strategy` has a model_averaging_period, and ranks need equal weights: remove it.")


def check_strategy(kind: type | None, start_method: str, name: Any) -> None:
    """Raise an ``InputError`` for a class of strategies that no run works with.

    Args:
        kind: the class; ``None`` if there is none of that name.
        start_method: of its processes, "popen" for new ones; others make copies of this one.
        name: what the user has written.
    """
    is_known = kind is not None and issubclass(kind, _WHOLE_WEIGHTS) and not issubclass(kind, _PARTS_OF_WEIGHTS)
    if not is_known:
        raise InputError(
            f"`trainer.strategy` is {name}: methods copy and compare whole weights, so that each device has to hold"
            " them: choose auto, single_device or ddp."
        )
    if is_notebook() and issubclass(cast(type, kind), DDPStrategy):
        raise InputError(
            "A notebook is one process, and several devices need one each: write the run to a file and start it with"
            " python, or set `trainer.strategy` to auto and `trainer.devices` to 1."
        )
    if start_method != "popen":
        raise InputError(
            f"`trainer.strategy` is {name}: copies of this process ({start_method}) would train, and their results not"
            " come back to it: choose ddp, which starts a process for each further device."
        )


def is_notebook() -> bool:
    """Whether somebody types into this process, as into a notebook; Lightning asks the same."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive)


def check_precision(precision: Any) -> None:
    """Raise an ``InputError`` for weights of too few bits."""
    if precision in _HALVES:
        raise InputError(
            f"`trainer.precision` is {precision}: in weights of 16 bits or less, small steps are rounded away: choose"
            " 32-true, bf16-mixed, 16-mixed or 64-true."
        )


def _check_callback(callback: Callback) -> None:
    for kind in type(callback).__mro__:
        if kind.__name__ in CALLBACKS and kind.__module__.startswith("lightning."):
            name = type(callback).__name__
            derived = f", which is derived from {kind.__name__}" if name != kind.__name__ else ""
            raise InputError(f"`trainer.callbacks` has {name}{derived}: {CALLBACKS[kind.__name__]}.")


def check_others(callbacks: Sequence[Callback], boundary: Callback, checkpoints: Path | None) -> None:
    """Raise an ``InputError`` for callbacks that would not see the whole gradient, or would write into a run's folder.

    Args:
        callbacks: all of a run, in their order.
        boundary: its ``TaskBoundary``.
        checkpoints: the folder of the run's own checkpoints.
    """
    for callback in callbacks[: callbacks.index(boundary)]:
        if is_overridden("on_before_optimizer_step", callback, parent=Callback):
            raise InputError(
                f"{type(callback).__name__} looks at gradients before they are whole: give the trainer its TaskBoundary"
                " as the first callback."
            )
    own = checkpoints.resolve() if checkpoints is not None else None
    for callback in callbacks:
        folder = callback.dirpath if isinstance(callback, ModelCheckpoint | OnExceptionCheckpoint) else None
        if folder is not None and Path(folder).resolve() == own:
            raise InputError(
                f"{type(callback).__name__} would write into {checkpoints}, the folder of the run's own checkpoints:"
                " give it another dirpath."
            )


def check_length(trainer: Trainer, sequence: TaskSequence, stage: str) -> None:
    """Raise an ``InputError`` for settings of the trainer that would cut or mix tasks."""
    if stage == "test":
        if _limited(trainer.limit_test_batches):
            raise InputError("`trainer.limit_test_batches` does not apply: every test image counts.")
        return
    if trainer.max_epochs != sequence.num_tasks or trainer.max_steps != -1:
        raise InputError(
            "`trainer.max_epochs` and max_steps belong to the sequence, one epoch for each task: set `data.tasks` and"
            " `data.steps` instead."
        )
    if (
        trainer.min_epochs
        or trainer.min_steps
        or _limited(trainer.limit_train_batches)
        or cast(Any, trainer).overfit_batches
    ):
        raise InputError(
            "`trainer.min_epochs`, min_steps, limit_train_batches and overfit_batches do not apply: set `data.steps`."
        )
    if cast(Any, trainer).reload_dataloaders_every_n_epochs != 1:
        raise InputError("`trainer.reload_dataloaders_every_n_epochs` must be 1: each task has its own loaders.")
    if trainer._accelerator_connector.use_distributed_sampler:
        raise InputError("`trainer.use_distributed_sampler` must be false: the training stream slices itself.")


def _limited(batches: float) -> bool:
    """Whether a limit of Lightning leaves batches out: 1.0 means all of them, 1 means a single one."""
    return isinstance(batches, int) or batches != 1.0
