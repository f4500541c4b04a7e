"""One process holds a run folder: of several, of killed ones, and of those on machines that cannot be asked."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gift_lightning.errors import InputError
from gift_lightning.records import run_lock
from gift_lightning.records.run_lock import RunLock
from tests.e2e import conftest  # its fork server has imported the stack

assert conftest
processes = multiprocessing.get_context("forkserver")
ROUNDS = 10


def record(folder: Path, **changes: Any) -> bytes:
    """The record of a lock of this process, with other fields."""
    return json.dumps(json.loads(RunLock(folder)._record) | changes).encode()


def leave(folder: Path, **changes: Any) -> Path:
    """Leave a lock as its process did when it was killed."""
    folder.mkdir(exist_ok=True)
    (folder / ".lock").write_bytes(record(folder, **changes))
    return folder


def a_dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def hold(folder: Path, pids: Any, forks: bool) -> None:
    """Hold the lock until the process is killed, beside two forks: one leaves the lock, the other one stays."""
    try:
        with RunLock(folder).held():
            leaver = os.fork() if forks else -1
            if leaver == 0:
                raise SystemExit
            worker = os.fork() if forks else -1
            if worker != 0:
                if forks:
                    os.waitpid(leaver, 0)
                pids.put((os.getpid(), worker))
            time.sleep(600)
    finally:
        os._exit(0)


def holder(folder: Path, forks: bool = False) -> tuple[Any, int]:
    """A process that holds the lock, and the id of its fork that works on."""
    pids = processes.Queue()
    process = processes.Process(target=hold, args=(folder, pids, forks))
    process.start()
    return process, pids.get(timeout=60)[1]


def test_a_second_process_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "run"
    process, _ = holder(folder)
    host = re.escape(os.uname().nodename)
    sentence = rf"{folder} is in use by process {process.pid} on {host} since \d{{4}}-.* UTC, and only one run can"
    with pytest.raises(InputError, match=sentence), RunLock(folder).held():
        pass
    os.kill(process.pid, signal.SIGSTOP)  # one that stands still lives
    with pytest.raises(InputError, match=sentence), RunLock(folder).held():
        pass
    process.kill()
    process.join()
    with RunLock(folder).held():
        assert [path.name for path in folder.iterdir()] == [".lock"]
        (folder / "file").touch()
    assert [path.name for path in folder.iterdir()] == ["file"]
    with pytest.raises(ZeroDivisionError), RunLock(tmp_path / "new" / "run").held():
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()


def test_forks_neither_release_it_nor_keep_it(tmp_path: Path) -> None:
    process, worker = holder(tmp_path, forks=True)
    try:
        with pytest.raises(InputError, match=f"process {process.pid} on"), RunLock(tmp_path).held():
            pass
        process.kill()
        process.join()
        os.kill(worker, 0)  # it lives
        with RunLock(tmp_path).held():
            pass
        assert not list(tmp_path.iterdir())
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_dead_process_and_another_one_with_its_id_hold_nothing(tmp_path: Path) -> None:
    unreaped = subprocess.Popen(["true"])
    while run_lock._state_of(unreaped.pid)[0] != "Z":
        time.sleep(0.01)
    dead = [{"pid": a_dead_process()}, {"start": "1"}]
    dead += [{"pid": unreaped.pid, "start": run_lock._state_of(unreaped.pid)[1]}]
    for changes in dead:
        leave(tmp_path, **changes)
        (tmp_path / ".lock.next").write_bytes(record(tmp_path, **changes))  # killed while it took a lock over
        began = time.monotonic()
        with RunLock(tmp_path).held():
            assert time.monotonic() - began < 2
        assert not list(tmp_path.iterdir())
    (tmp_path / ".lock.next").write_bytes(record(tmp_path, **dead[0]))
    with RunLock(tmp_path).held():
        pass
    assert not list(tmp_path.iterdir())
    unreaped.wait()


def take_together(number: int, folder: Path, dead: int, barrier: Any, holders: Any) -> None:
    for each in range(ROUNDS):
        if number == 0:
            leave(folder, pid=dead)
        barrier.wait(60)
        try:
            with RunLock(folder).held():
                holders.put((each, number))
                barrier.wait(60)
        except InputError:
            barrier.wait(60)
        barrier.wait(60)


def test_of_processes_that_find_a_dead_one_at_once_only_one_takes_over(tmp_path: Path) -> None:
    count, dead = 4, a_dead_process()
    barrier, holders = processes.Barrier(count), processes.Queue()
    args = (tmp_path, dead, barrier, holders)
    racers = [processes.Process(target=take_together, args=(number, *args)) for number in range(count)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(120)
    assert [racer.exitcode for racer in racers] == [0] * count
    assert sorted(holders.get(timeout=10)[0] for _ in range(ROUNDS)) == [*range(ROUNDS)] and holders.empty()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", ["of another machine", "cut short"])
def test_a_lock_that_cannot_be_asked_is_watched(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(run_lock, "ABANDONED_SECONDS", 1.0)
    file = leave(tmp_path, host="node7", machine="another") / ".lock"
    if left == "cut short":
        file.write_bytes(b"")
    name = "another process" if left == "cut short" else f"process {os.getpid()} on node7"
    moments = iter([100, 50, 75] * 1000)  # of a clock that is wrong and steps back
    stop = threading.Event()

    def move() -> None:
        while not stop.wait(0.3):
            os.utime(file, (next(moments),) * 2)

    mover = threading.Thread(target=move)
    mover.start()
    with pytest.raises(InputError, match=f"{tmp_path} is in use by {name}"), RunLock(tmp_path).held():
        pass
    stop.set()
    mover.join()
    began = time.monotonic()
    with RunLock(tmp_path).held():
        assert time.monotonic() - began >= 1
    assert f"was in use by {name}: waiting 1 s for a sign that it still is" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", ["removed", "taken over"])
def test_the_holder_hears_that_it_has_lost_the_lock(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.05)
    lock = RunLock(tmp_path)
    with lock.held():
        before = lock.path.stat().st_mtime_ns
        time.sleep(0.3)
        assert lock.path.stat().st_mtime_ns > before
        lock.check()
        lock.path.unlink() if how == "removed" else lock.path.write_bytes(record(tmp_path, token="another"))
        time.sleep(0.3)
        with pytest.raises(InputError, match=r"\.lock was removed or taken over"):
            lock.check()
    assert lock.path.exists() == (how == "taken over")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"run cannot be written: .* is a file, not a folder"),
        RunLock(tmp_path / "file/run").held(),
    ):
        pass
    (tmp_path / ".lock").mkdir()
    with pytest.raises(InputError, match="cannot be written: Is a directory"), RunLock(tmp_path).held():
        pass
