"""Settings of Lightning's trainer: those that do not work here are refused, before anything is built with them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from jsonargparse import Namespace
from lightning import Callback, Trainer

from gift_lightning.errors import InputError
from gift_lightning.numerics.precision import float32_products

_NAMES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true", "single_device")
_CLASSES = ("DDPStrategy", "SingleDeviceStrategy")
_HALVES = ("16-true", "bf16-true", "transformer-engine", "transformer-engine-float16")


def check_settings(settings: Namespace) -> None:
    """Raise an ``InputError`` for a strategy or precision, by name or class, that no method works with."""
    strategy = settings.get("strategy")
    if isinstance(strategy, Namespace):
        start = strategy.get("init_args", Namespace()).get("start_method", "popen")
        if strategy.class_path.rpartition(".")[2] not in _CLASSES or start != "popen":
            raise _wrong_strategy(strategy.class_path)
    elif strategy not in _NAMES:
        raise _wrong_strategy(strategy)
    _check_precision(settings.get("precision"))


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Raise an ``InputError`` if a callback that each run has is in the config as well."""
    names = [type(callback).__name__ for callback in callbacks if type(callback).__module__.startswith("callbacks.")]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"`trainer.callbacks` has {twice[0]}, which each run has by itself: remove it.")


def check_trainer(trainer: Trainer) -> None:
    """Raise an ``InputError`` if other settings, as plugins, lead to a strategy or precision that is refused."""
    if type(trainer.strategy).__name__ not in _CLASSES:
        raise _wrong_strategy(type(trainer.strategy).__name__)
    _check_precision(trainer.precision)


def products(trainer: Trainer) -> AbstractContextManager[None]:
    """The context of a run: with ``32-true`` a CUDA device multiplies float32 matrices as TF32."""
    if trainer.precision != "32-true":
        return nullcontext()
    return float32_products(trainer.strategy.root_device, tf32=True)


def _wrong_strategy(name: Any) -> InputError:
    return InputError(
        f"`trainer.strategy` is {name}: methods copy and compare whole weights, so that each device has to hold them"
        " and runs in a process of its own: choose auto, single_device or ddp."
    )


def _check_precision(precision: Any) -> None:
    if precision in _HALVES:
        raise InputError(
            f"`trainer.precision` is {precision}: in weights of 16 bits or less, small steps are rounded away: choose"
            " 32-true, bf16-mixed, 16-mixed or 64-true."
        )
