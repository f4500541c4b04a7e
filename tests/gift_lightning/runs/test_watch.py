"""Ranks that watch each other: one that fails or is killed ends all, a signal to one stops all at the same point."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from datamodules.signals import Signals, Stopped
from gift_lightning.errors import naming_keys
from gift_lightning.runs import watch as watching
from gift_lightning.runs.watch import OtherRankError, Watch
from tests.e2e.conftest import quietly, start_process, statuses_of

HOST = socket.gethostname()
GONE = f"error: rank {{}} on {HOST} has ended without a word: it was killed"


def stuck() -> None:
    """Wait outside of Python, as within a message of NCCL."""
    ctypes.CDLL(None).sleep(30)


def busy() -> None:
    """Hold the interpreter, as some libraries do while they compute."""
    ctypes.PyDLL(None).sleep(1)


def stopped_by_the_system() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    raise ValueError("Out of memory.\nAnd more.")


def pass_points(signals: Signals, folder: Path, rank: int) -> None:
    """Pass safe points, the second rank faster and with a signal, until the run leaves."""
    for point in range(500):
        if rank == 1 and point == 60:
            os.kill(os.getpid(), signal.SIGTERM)
        if signals.safe_point():
            (folder / f"left{rank}").write_text(str(point))
            signals.leave()
        time.sleep(0.004 if rank else 0.006)


def wait() -> None:
    time.sleep(30)


SCENES: dict[str, Callable[[Signals, Path, int], None]] = {
    "second killed": lambda signals, folder, rank: die() if rank else wait(),
    "first killed": lambda signals, folder, rank: wait() if rank else die(),
    "first killed, second stuck": lambda signals, folder, rank: stuck() if rank else die(),
    "second fails, first stuck": lambda signals, folder, rank: fail() if rank else stuck(),
    "both fail": lambda signals, folder, rank: fail(),
    "one is busy": lambda signals, folder, rank: busy() if rank else time.sleep(0.1),
    "both stopped": lambda signals, folder, rank: stopped_by_the_system(),
    "signal": pass_points,
    "signal before the first checkpoint": lambda signals, folder, rank: (
        os.kill(os.getpid(), signal.SIGTERM) if rank else None,
        wait(),
    )[1],
}
SENTENCES = {
    "second killed": ([2, -9], GONE.format(1)),
    "first killed": ([-9, 2], "rank 1: " + GONE.format(0)),
    "first killed, second stuck": ([-9, 2], "rank 1: " + GONE.format(0)),
    "second fails, first stuck": ([2, 1], ""),
    "both fail": ([1, 1], ""),
    "one is busy": ([0, 0], ""),
    "both stopped": ([0, 0], ""),
    "signal": ([143, 143], ""),
    "signal before the first checkpoint": ([143, 143], ""),
}


def trainer_of(rank: int, folder: Path) -> Any:
    """The part of a trainer that the watch needs; the first rank's message is a file."""

    def broadcast(value: Any) -> Any:
        file = folder / "message.json"
        if rank == 0:
            file.with_suffix(".tmp").write_text(json.dumps(value))
            file.with_suffix(".tmp").rename(file)
        while not file.is_file():
            time.sleep(0.02)
        return json.loads(file.read_text())

    environment = SimpleNamespace(main_address="localhost")
    strategy = SimpleNamespace(broadcast=broadcast, cluster_environment=environment)
    connector = SimpleNamespace(cluster_environment=None)
    return SimpleNamespace(world_size=2, global_rank=rank, strategy=strategy, _accelerator_connector=connector)


def run_rank(scene: str, rank: int, folder: str, log: str) -> None:
    watching.PATIENCE, watching.LIMIT = 0.3, 1.2
    with quietly(log), naming_keys():
        trainer = trainer_of(rank, Path(folder))
        signals = Signals(trainer)
        signals.at_once = "first checkpoint" in scene
        watch = Watch(trainer, signals)
        watch.start()
        signals.register_signal_handlers()
        status = 0
        try:
            SCENES[scene](signals, Path(folder), rank)
        except BaseException as error:  # noqa: BLE001
            signals.error = signals.error or error
            reason = watch.reason_of(error)
            status = 128 + reason.number if isinstance(reason, Stopped) else 1
            if isinstance(reason, OtherRankError):
                status = 2
                if not reason.is_reported:
                    watching.print_styled(f"{'rank 1: ' if rank else ''}error: {reason}", "red")
        watch.end(after_first=status > 128)
        signals.restore()
    os._exit(status)


@pytest.mark.parametrize("scene", SCENES)
def test_two_ranks(scene: str, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    ranks = [start_process(run_rank, scene, rank, str(tmp_path), str(log)) for rank in range(2)]
    while scene == "both stopped" and any(process.is_alive() for process in ranks):
        time.sleep(0.5)
        for process in ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid or 0, signal.SIGCONT)
    statuses, expected = SENTENCES[scene]
    assert statuses_of(ranks, 60) == statuses, log.read_text()  # one that is left alone waits, and ends well
    said = log.read_text()
    assert said.startswith(expected) and len(said.splitlines()) == bool(expected), said
    if scene == "signal":
        assert (tmp_path / "left0").read_text() == (tmp_path / "left1").read_text()
