"""The names of events: a misspelt one would never be called, and nobody would notice."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from lightning.pytorch import Callback, LightningDataModule, LightningModule

from callbacks.method import Method
from callbacks.task_callback import TaskCallback
from datamodules.events import TaskEvents
from datamodules.sequence import TaskSequence
from gift_lightning.errors import InputError, nearest

_Receiver: TypeAlias = LightningDataModule | LightningModule | Callback


def events_of(interface: type) -> dict[str, Callable[..., None]]:
    """The events that an interface declares, by name.

    >>> list(events_of(TaskEvents))[:2]
    ['on_sequence_start', 'on_sequence_end']
    """
    return {name: value for name, value in vars(interface).items() if inspect.isfunction(value)}


def check_receivers(sequence: TaskSequence, method: Method, callbacks: Sequence[Callback]) -> None:
    """See whether each event that a receiver wants to hear exists and can be sent to it.

    Raises:
        InputError: one has a method ``on_...`` that is neither an event nor a hook of Lightning, or a method whose name
            is almost that of an event; its version of an event takes other arguments; or it has events and is a plain
            callback.
    """
    receivers: list[_Receiver] = [sequence, method, *callbacks]
    for receiver in receivers:
        _check(receiver)


def _check(receiver: _Receiver) -> None:
    interface = TaskCallback if isinstance(receiver, Callback) else TaskEvents
    events, kind = events_of(interface), type(receiver).__name__
    hooks = _hooks_of(receiver)
    if not isinstance(receiver, interface):
        if heard := [name for name in dir(type(receiver)) if name not in hooks and _means_event(name, events)]:
            raise InputError(
                f"{kind} has the event {heard[0]}, but is no TaskCallback: derive it from callbacks.TaskCallback."
            )
        return
    for name in dir(type(receiver)):
        if name in events or name in hooks or not callable(getattr(type(receiver), name, None)):
            continue
        if name.startswith("on_") or difflib.get_close_matches(name, events, n=1, cutoff=0.9):
            raise InputError(f"{kind}.{name} is no event and no hook of Lightning{nearest(name, {*events, *hooks})}.")
    for name, declared in events.items():
        arguments = list(inspect.signature(declared).parameters)[1:]
        try:
            inspect.signature(getattr(receiver, name)).bind(*arguments)
        except TypeError:
            raise InputError(f"{kind}.{name} has to take the arguments ({', '.join(arguments)}).") from None


def _means_event(name: str, events: Iterable[str]) -> bool:
    """Whether a method of a plain callback is an event, perhaps misspelt."""
    return name.startswith(("on_task", "on_sequence")) or bool(difflib.get_close_matches(name, events, 1, cutoff=0.9))


def _hooks_of(receiver: _Receiver) -> set[str]:
    """Names of all attributes of Lightning's base class."""
    return {
        name
        for base in (LightningDataModule, LightningModule, Callback)
        if isinstance(receiver, base)
        for name in dir(base)
    }
