"""Work that the ranks of a run share, so that what stops one of them stops all of them, and at once."""

from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from gift_lightning.errors import InputError

T = TypeVar("T")


def in_step(trainer: Any, work: Iterator[T]) -> Iterator[T]:
    """Yield what this rank's ``work`` yields, one item a round; a round is over when all ranks are through with it.

    Ends when the work of every rank has ended, however different their lengths.

    Raises:
        InputError: the work of another rank failed in this round; this tells why. That rank raises what failed.
        SIGTERMException: one of the ranks was asked to stop.
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


def _meet(trainer: Any, busy: bool = False, problem: str = "") -> bool:
    """Wait for the other ranks and hear of them; returns whether any is busy."""
    strategy = trainer.strategy
    state = torch.tensor([busy, bool(problem), trainer.received_sigterm], dtype=torch.long, device=strategy.root_device)
    working, failed, stopped = strategy.reduce(state, reduce_op="sum").tolist()
    if failed:
        problems = [strategy.broadcast(problem, src=rank) for rank in range(trainer.world_size)]
        if not problem:
            raise InputError(next(filter(None, problems)))
    if stopped:
        raise SIGTERMException
    return bool(working)
