"""One process writes into a run folder: the first rank locks it, and all ranks hear whether it could."""

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from typing import Any, cast

import torch
from lightning import Trainer
from torch.distributed import Store
from torch.distributed.rendezvous import rendezvous

from callbacks.method import Method
from callbacks.task_callback import TaskCallback
from gift_lightning.errors import InputError
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.records.run_lock import RunLock

_PATIENCE = 60.0
"""Seconds for which a first rank that was refused waits until all others have heard of it."""

_LAUNCHER = "GIFT_LIGHTNING_LAUNCHER"
"""Environment variable with the process whose ranks Lightning starts: they begin when it holds the lock."""

_calls = itertools.count()


@contextlib.contextmanager
def one_writer(folder: RunFolder, trainer: Trainer) -> Iterator[None]:
    """Hold the lock of a run folder, unless its run is complete: then ``fit`` only reads.

    All ranks have to enter it; none comes in before the first one has the lock.

    Args:
        folder: of the run.
        trainer: with its strategy; no process group is needed yet.

    Raises:
        InputError: on all ranks, if another process writes into the folder, or the lock cannot be written.
    """
    store = _store(trainer)
    with contextlib.ExitStack() as stack:
        if trainer.is_global_zero:
            with _announced(store, trainer.world_size):
                results = folder.read_results()
                if results is None or not results["complete"]:
                    lock = RunLock(folder.path)
                    stack.enter_context(lock.held())
                    stack.enter_context(_fenced(trainer, lock))
        elif store is not None:
            _await_lock(store)
        yield


@contextlib.contextmanager
def _fenced(trainer: Trainer, lock: RunLock) -> Iterator[None]:
    """Within it, the run ends when it has lost its lock: before it writes a report or a checkpoint, or after a step."""
    callbacks, fence = cast(Any, trainer).callbacks, _Fence(lock)
    callbacks.insert(0, fence)  # before those that write
    try:
        yield
    finally:
        callbacks.remove(fence)


class _Fence(TaskCallback):
    """Raises an ``InputError`` once the lock is lost."""

    def __init__(self, lock: RunLock) -> None:
        self.lock = lock

    def on_train_batch_end(self, *_: Any) -> None:
        self.lock.check()

    def on_task_report(self, trainer: Trainer, method: Method, task: int) -> None:
        self.lock.check(anew=True)

    def on_save_checkpoint(self, *_: Any) -> None:
        self.lock.check(anew=True)


def _store(trainer: Trainer) -> Store | None:
    """The store in which the ranks meet later, if a launcher has started them all; ``None`` for one process.

    Ranks that Lightning starts itself need none: they begin when the first rank has the lock.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if trainer.world_size == 1 or environment is None:
        return None
    if torch.distributed.is_initialized():  # by an earlier run of this process
        return torch.distributed.distributed_c10d._get_default_store()
    if not environment.creates_processes_externally:
        os.environ[_LAUNCHER] = str(os.getpid())
    if os.environ.get(_LAUNCHER) in (str(os.getpid()), str(os.getppid())):
        return None
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    # as init_process_group will, which then shares the server of this store: no group, which would start NCCL
    try:
        store, _, _ = next(rendezvous("env://", trainer.global_rank, trainer.world_size))
    except torch.distributed.DistError as error:
        if not trainer.is_global_zero:
            raise
        reason = str(error).rpartition("message: ")[2]
        raise InputError(
            f"No ranks can meet at {environment.main_address}:{environment.main_port}: {reason}. Set MASTER_ADDR to the"
            " machine of the first rank, and MASTER_PORT to a port that no program uses there."
        ) from error
    _store_of_process[:] = [store]
    return store


_store_of_process: list[Store] = []
"""The store of this process: with that of the first rank, the server would end that all ranks are connected to."""


@contextlib.contextmanager
def _announced(store: Store | None, world_size: int) -> Iterator[None]:
    """Tell the other ranks how the block of the first one ends; after an error, wait until they have heard it."""
    if store is None:
        yield
        return
    call = _next_call()
    try:
        yield
    except BaseException as error:
        store.set(f"writer {call}", f"refused: {error}")
        end = time.monotonic() + _PATIENCE
        while store.add(f"heard {call}", 0) < world_size - 1 and time.monotonic() < end:
            time.sleep(0.05)
        raise
    store.set(f"writer {call}", "ready")


def _next_call() -> str:
    """The number of a call in this process; torchrun keeps its store when it starts the ranks again."""
    return f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')} {next(_calls)}"


def _await_lock(store: Store) -> None:
    """Wait for the first rank.

    Raises:
        InputError: it was refused, with its sentence.
    """
    call = _next_call()
    answer = store.get(f"writer {call}").decode()
    store.add(f"heard {call}", 1)
    if answer != "ready":
        raise InputError(answer.removeprefix("refused: "))
