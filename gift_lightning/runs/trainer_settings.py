"""Settings of Lightning's trainer in a config: those that no run works with are refused, before anything is built.

``callbacks.trainer_check`` has what holds for every trainer, and says which strategies, precisions and callbacks these
are. ``SETTINGS`` below are those that would have no effect, or that a run decides by itself.

Other arguments of ``Trainer`` work as Lightning describes them. Some have nothing to do: there is no validation for
``limit_val_batches``, ``val_check_interval`` and ``check_val_every_n_epoch``, no prediction for
``limit_predict_batches``, and no batch norm for ``sync_batchnorm``.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.strategies import Strategy, StrategyRegistry

from callbacks.trainer_check import check_made_strategy, check_precision, check_strategy, check_trainer, is_notebook
from gift_lightning.config.class_paths import class_of
from gift_lightning.console import note
from gift_lightning.errors import InputError, advice
from gift_lightning.numerics.precision import float32_products

SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "barebones": (bool, "a run logs and writes checkpoints: remove it"),
    "gradient_clip_val": (lambda value: value is not None and value < 0, "give a positive number, or null for none"),
    "log_every_n_steps": (lambda value: value is not None and value < 0, "give a number of steps, or 0 for none"),
    "model_registry": (bool, "a run uploads nothing: upload the file that `export` writes"),
}
"""Name of a setting -> which values are refused, and the reason."""


def check_settings(settings: Namespace) -> None:
    """Raise an ``InputError`` for a setting, in a config, that no run works with."""
    for name, (is_refused, reason) in SETTINGS.items():
        if is_refused(settings.get(name)):
            raise InputError(f"`trainer.{name}` is {settings[name]}: {reason}.")
    if settings.get("gradient_clip_algorithm") is not None and settings.get("gradient_clip_val") is None:
        raise InputError("`trainer.gradient_clip_algorithm` clips nothing without `trainer.gradient_clip_val`: set it.")
    _check_strategy(settings.get("strategy"))
    check_precision(settings.get("precision"))


def _check_strategy(strategy: Any) -> None:
    if isinstance(strategy, Namespace):
        arguments = strategy.get("init_args") or Namespace()
        check_strategy(class_of(strategy.class_path), arguments.get("start_method", "popen"), strategy.class_path)
    elif strategy != "auto":
        known: dict[str, dict[str, Any]] = StrategyRegistry
        entry = known[name] if (name := str(strategy).lower()) in known else {}
        start_method = entry.get("init_params", {}).get("start_method", "popen")
        check_strategy(entry.get("strategy"), start_method, strategy)


def check_objects(strategy: Any, plugins: Sequence[Any], callbacks: Sequence[Callback]) -> None:
    """Raise an ``InputError`` for a strategy that is an object, or what each run has by itself.

    Before a trainer is built from them: Lightning would advise in a notebook to take another strategy, and speak of two
    plugins where the user has given one.

    Args:
        strategy: as in the settings, a name or an object.
        plugins: of the user.
        callbacks: of the run and of the user.
    """
    if isinstance(strategy, Strategy):
        check_made_strategy(strategy)
        if strategy._checkpoint_io is not None:
            raise InputError("`trainer.strategy` has a checkpoint_io, and a run its own: make a new one without it.")
    for plugin in plugins:
        if isinstance(plugin, CheckpointIO):
            name = type(plugin).__name__
            raise InputError(f"`trainer.plugins` has {name}, and a run its own CheckpointIO: remove it.")
    names = [type(callback).__name__ for callback in callbacks if type(callback).__module__.startswith("callbacks.")]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"`trainer.callbacks` has {twice[0]}, which each run has by itself: remove it.")


def check_built(trainer: Trainer, nodes: int) -> None:
    """Raise an ``InputError`` if other settings, as plugins or objects, lead to parts that no run works with.

    Args:
        trainer: which is built from them.
        nodes: as the settings have it.
    """
    check_trainer(trainer)
    if nodes > trainer.num_nodes:
        raise InputError(f"`trainer.num_nodes` is {nodes}, and `trainer.strategy` is for one device: choose ddp.")
    devices = trainer.accelerator.auto_device_count() if is_notebook() else 1
    if devices > trainer.num_devices:
        note(
            f"a notebook is one process, which uses {trainer.num_devices} of {devices} devices: for more, write"
            " the run to a file and start it with python."
        )


def check_start(trainer: Trainer) -> None:
    """Raise an ``InputError`` if Lightning would go on from a checkpoint where a run begins.

    With an ``OnExceptionCheckpoint`` it takes the latest one of the user's callbacks, of whatever run.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    found = [Path(each.ckpt_path) for each in callbacks if isinstance(each, OnExceptionCheckpoint)]
    if found:
        folders = [Path(each.dirpath) for each in callbacks if isinstance(each, ModelCheckpoint) and each.dirpath]
        found += [file for folder in folders for file in folder.glob("last*.ckpt")]
    for file in found:
        if file.exists():
            raise InputError(
                f"Lightning would go on from {file}, which an OnExceptionCheckpoint finds:"
                f" {advice('give it as --ckpt_path, or delete it', 'delete it')}."
            )


def products(trainer: Trainer) -> AbstractContextManager[None]:
    """The context of a run: with ``32-true`` a CUDA device multiplies float32 matrices as TF32."""
    if trainer.precision != "32-true":
        return nullcontext()
    return float32_products(trainer.strategy.root_device, tf32=True)
