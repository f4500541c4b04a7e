"""The lock of a run folder: one process at a time writes into it, on any number of machines."""

import contextlib
import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from gift_lightning.console import note
from gift_lightning.errors import InputError, advice
from gift_lightning.files import unwritable

BEAT_SECONDS = 5.0
"""Time between two signs of life."""

ABANDONED_SECONDS = 30.0
"""A lock of another machine without a sign of life for so long belongs to a process that has died."""


class _Look(NamedTuple):
    """What a look at the file of a lock shows; two looks are equal if nothing happened between them."""

    record: bytes
    inode: int
    changed: int


class RunLock:
    """The lock of a folder, the file ``.lock`` in it, with the host and the id of the process that holds it.

    It is no lock of the operating system: forked workers inherit those and keep them when the process is killed, and
    network file systems lack them or keep them for a machine that is gone. Here the file is created exclusively, and
    its time of change moves every ``BEAT_SECONDS``. Another process judges it so:

    * of a process on this machine that has died (``/proc`` says so, by id and time of start): abandoned
    * of a process on this machine that lives: held, even if it stands still
    * of another machine: held when it moves; abandoned when it stands still for ``ABANDONED_SECONDS`` of watching.
      Clocks are not compared.

    A process that replaces an abandoned file first takes a lock for that, ``.lock.next``, and looks again: so only one
    of several does. ``.lock.next`` is then renamed onto ``.lock``.

    Args:
        folder: of the run; made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / ".lock"
        self._record = json.dumps(
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "since": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
                "machine": _machine(),
                "start": _state_of(os.getpid())[1],
                "token": uuid4().hex,
            }
        ).encode()
        self._is_lost = False
        self._over = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within it, this process holds the lock; after it, nothing of the lock is left.

        Raises:
            InputError: another process holds it, or the folder cannot be written.
        """
        made: list[Path] = []
        try:
            made += [place for place in (self.folder, *self.folder.parents) if not place.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
            _take(self.path, self._record)
        except OSError as error:
            _remove_empty(made)
            raise unwritable(self.folder, error) from error
        beating = threading.Thread(target=self._beat, name="run lock", daemon=True)
        owner = os.getpid()
        try:
            beating.start()
            _remove_dead(_following(self.path), self._record)
            yield
        finally:
            if os.getpid() == owner:  # not of a fork that leaves by this way
                self._over.set()
                beating.join()
                with contextlib.suppress(OSError):
                    if self._is_ours():
                        self.path.unlink()
                _remove_empty(made)

    def check(self, anew: bool = False) -> None:
        """Raise an ``InputError`` if the lock is not this process's any more: it was removed, or taken over.

        Args:
            anew: look at the file, and not only at what the latest sign of life found.
        """
        if anew:
            with contextlib.suppress(OSError):  # as in _beat
                self._is_lost |= not self._is_ours()
        if self._is_lost:
            raise InputError(
                f"{self.path} was removed or taken over, as after a long pause of this process: another one may write"
                f" into the folder, so this one stopped. When no other one does,"
                f" {advice('go on with --ckpt_path last', 'call fit again')}."
            )

    def _is_ours(self) -> bool:
        look = _look(self.path)
        return look is not None and look.record == self._record

    def _beat(self) -> None:
        while True:
            with contextlib.suppress(OSError):  # a file server may be away for a while
                if not self._is_ours():
                    self._is_lost = True
                    return
                os.utime(self.path)
            if self._over.wait(BEAT_SECONDS):
                return


def writer_of(folder: Path) -> str:
    """The process of this machine that holds the lock of a folder, as "process 7 on host"; empty without one."""
    try:
        look = _look(folder / ".lock")
    except OSError:
        return ""
    owner = _owner(look.record) if look is not None else {}
    return _named(owner) if owner.get("machine") == _machine() != "" and _is_alive(owner) else ""


def _take(path: Path, record: bytes) -> None:
    """Create the file of a lock, or replace an abandoned one.

    Raises:
        InputError: another process holds it.
        OSError: it cannot be written.
    """
    while not _create(path, record):
        seen = _look(path)
        if seen is None:
            time.sleep(0.01)
            continue
        _wait_for_its_end(path.parent, path, seen)
        following = _following(path)
        _take(following, record)
        if _look(path) == seen:
            with contextlib.suppress(FileNotFoundError):  # this process stood still here, and was taken for dead
                os.replace(following, path)
                return
        following.unlink(missing_ok=True)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the innermost first, up to one with content."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _remove_dead(path: Path, record: bytes) -> None:
    """Remove the file of a process that was killed while it took a lock over."""
    with contextlib.suppress(InputError, OSError):
        if path.exists():
            _take(path, record)
            path.unlink()


def _following(path: Path) -> Path:
    """The lock that a process takes to replace a lock."""
    return path.with_name(f"{path.name}.next")


def _create(path: Path, record: bytes) -> bool:
    """Create a file with this content; ``False`` if it exists."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        if os.write(descriptor, record) < len(record):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return True


def _look(path: Path) -> _Look | None:
    """Content and time of change of a file; ``None`` if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)  # to open it asks a file server; a question for its time may not
        try:
            state = os.fstat(descriptor)
            return _Look(os.read(descriptor, 4096), state.st_ino, state.st_mtime_ns)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return None
        raise


def _wait_for_its_end(folder: Path, path: Path, seen: _Look) -> None:
    """Return when the holder of a lock is known to be dead, or the lock has changed hands.

    Raises:
        InputError: the holder lives.
    """
    owner = _owner(seen.record)
    if owner.get("machine") == _machine() != "":
        if _is_alive(owner):
            raise _refusal(folder, owner)
        return
    note(f"{folder} was in use by {_named(owner)}: waiting {ABANDONED_SECONDS:.0f} s for a sign that it still is.")
    end = time.monotonic() + ABANDONED_SECONDS
    while time.monotonic() < end:
        time.sleep(min(1.0, BEAT_SECONDS))
        now = _look(path)
        if now is None or now.record != seen.record:
            return
        if now != seen:
            raise _refusal(folder, owner)


def _refusal(folder: Path, owner: dict[str, Any]) -> InputError:
    since = f" since {owner['since']}" if "since" in owner else ""
    return InputError(
        f"{folder} is in use by {_named(owner)}{since}, and only one run can write into it: wait for its end, stop it,"
        f" or choose another {advice('--run.name', 'run')}."
    )


def _named(owner: dict[str, Any]) -> str:
    return f"process {owner['pid']} on {owner['host']}" if {"pid", "host"} <= owner.keys() else "another process"


def _owner(record: bytes) -> dict[str, Any]:
    """The fields of a record; empty while it is being written, or if that was cut short."""
    with contextlib.suppress(ValueError):
        owner = json.loads(record)
        return owner if isinstance(owner, dict) else {}
    return {}


def _machine() -> str:
    """Names where ids of processes count: the host since it was started, and its container; empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether a process of this machine runs, and is not another one that was given its id later."""
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user, whose processes /proc may hide
        pass
    state, start = _state_of(owner["pid"])
    return state not in ("Z", "X") and start in ("", owner["start"])


def _state_of(pid: int) -> tuple[str, str]:
    """The state of a process, ``Z`` if it is dead and not yet reaped, and its time of start; empty if unknown."""
    try:
        # the name of the program, in parentheses, may hold spaces
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""
