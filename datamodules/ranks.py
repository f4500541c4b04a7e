"""Work that the ranks of a run share: an error or a signal that stops one of them stops all of them, at once."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import torch
from lightning import Trainer

from datamodules.signals import signals_of
from gift_lightning.errors import InputError

T = TypeVar("T")


def in_step(trainer: Trainer, work: Iterator[T]) -> Iterator[T]:
    """Yield the items of this rank's ``work``, one a round; a round is over when all ranks are through with it.

    Ends when the work of every rank has ended, however different their lengths. The end of a round is a safe point,
    see ``Signals``.

    Raises:
        InputError: the work of another rank failed in this round, with its sentence. That rank raises its exception.
        Stopped: one of the ranks was asked to stop.
    """
    busy = True
    while busy:
        try:
            item = next(work, None)
        except Exception as error:
            _meet(trainer, problem=str(error) or repr(error))
            raise
        busy = _meet(trainer, busy=item is not None)
        if item is not None:
            yield item


def on_first_rank(trainer: Trainer, action: Callable[[], T]) -> T:
    """The result of ``action`` on the first rank, which alone calls it, on all ranks.

    Raises:
        InputError: it failed there. The first rank raises its own exception.
    """
    results = list(in_step(trainer, ((action(),) for _ in range(trainer.is_global_zero))))
    return cast(T, trainer.strategy.broadcast(results[0][0] if results else None))


def on_all_ranks(trainer: Trainer, value: T) -> list[T]:
    """The value of each rank, in their order."""
    return [trainer.strategy.broadcast(value, src=rank) for rank in range(trainer.world_size)]


def check_same(trainer: Trainer, facts: dict[str, Any]) -> None:
    """Raise an ``InputError`` on all ranks if the facts of one are not those of the first rank; all have to call this.

    Each machine of a run has a command of its own, and may have a copy of the data or a disk of its own.

    Args:
        trainer: of the run, whose ranks can already send messages.
        facts: by what the error says of a rank, as ``other settings``.
    """
    if trainer.world_size == 1:
        return
    first = trainer.strategy.broadcast(facts)
    differing = [name for name, fact in facts.items() if fact != first[name]]
    problem = (
        f"Rank {trainer.global_rank} has {differing[0]} than rank 0: give the same command to all ranks, and the same"
        " data, weights and run folder to all machines."
        if differing
        else ""
    )
    _meet(trainer, problem=problem)
    if problem:
        raise InputError(problem)


def _meet(trainer: Trainer, busy: bool = False, problem: str = "") -> bool:
    """Wait for the other ranks, and raise if one of them failed or the run leaves; returns whether any is busy."""
    strategy = trainer.strategy
    state = torch.tensor([busy, bool(problem)], dtype=torch.long, device=strategy.root_device)
    working, failed = strategy.reduce(state, reduce_op="sum").tolist()
    if failed:
        problems = on_all_ranks(trainer, problem)
        if not problem:
            raise InputError(next(filter(None, problems)))
    signals = signals_of(trainer)
    if signals.safe_point():
        signals.leave()
    return bool(working)
