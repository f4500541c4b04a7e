"""The ranks of a run watch each other: when one fails or vanishes, all end, and a signal to one is heard by all."""

import contextlib
import json
import os
import selectors
import socket
import sys
import threading
import time
import weakref
from contextvars import copy_context
from typing import Any

import torch
from lightning import Trainer

from datamodules.signals import Signals, Stopped
from gift_lightning.console import print_styled
from gift_lightning.errors import InputError, advice, first_line
from gift_lightning.runs.connections import connect, line_of

PATIENCE = 5.0
"""Seconds for which a rank may end by itself when another one has failed; then it is interrupted."""

LIMIT = 20.0
"""Seconds after which its process ends, where the interruption has no effect, as within a message of NCCL."""

_PULSE = 0.5


class OtherRankError(InputError):
    """Another rank has failed, or has ended without a word.

    Args:
        sentence: says so.
        is_reported: whether another rank tells it to the user.
    """

    def __init__(self, sentence: str, is_reported: bool) -> None:
        super().__init__(sentence)
        self.is_reported = is_reported


class Watch:
    """A thread in each rank that talks to the first rank's, over a connection for nothing else.

    A connection that closes without a word shows that its process was killed, at once; that of a machine which is gone
    closes after half a minute. The system answers for a process that computes, writes or is stopped: the thread needs
    no turn for it. Messages, JSON on a line each:

    * ``signal`` with its number: a rank has one; to the first rank
    * ``ask``: the first rank asks all how far they are; the answer ``at`` is ``Signals.ask()``
    * ``leave`` at a safe point, or at once where it is null: the first rank to all
    * ``failed`` with its sentence, ``gone`` or ``done``: how a rank has ended; the first rank passes on the first two

    When another rank has failed or vanished, the main thread has ``PATIENCE`` to end by itself, as it does after an
    error of gloo. Then an exception is raised in it, and after ``LIMIT`` the process ends, with status 2.

    Args:
        trainer: of the run.
        signals: of the run.
    """

    def __init__(self, trainer: Trainer, signals: Signals) -> None:
        self._trainer, self._signals = trainer, signals
        self._rank = 0
        self._hosts: list[str] = []
        self._thread: threading.Thread | None = None
        self._peers: dict[int, socket.socket] = {}
        self._unread: dict[int, bytes] = {}
        self._ended: set[int] = set()
        self._selector = selectors.DefaultSelector()
        self._is_over = self._is_asking = False
        self._sent: set[str] = set()
        self._reports: dict[int, tuple[int, bool]] = {}
        self._asked_for = 0
        self._failure: OtherRankError | None = None
        self._since = float("inf")  # when this rank's end began
        self._status, self._final_message = 2, ""
        self._is_first_to_fail = False

    # --- the main thread ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect the ranks, which all call it once they can send messages to each other; nothing for a single one."""
        if self._trainer.world_size == 1:
            return
        self._rank = self._trainer.global_rank
        self._peers, self._hosts = connect(self._trainer)
        self._wake, self._waking = socket.socketpair()
        self._selector.register(self._waking, selectors.EVENT_READ)
        for rank, peer in self._peers.items():
            self._unread[rank] = b""
            self._selector.register(peer, selectors.EVENT_READ, rank)
        _close_in_children(self)
        self._signals.on_signal = self._wake_up
        context = copy_context()  # the words of a sentence depend on it
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="watch", daemon=True)
        self._thread.start()

    def reason_of(self, error: BaseException) -> BaseException:
        """The exception with which this rank ends: ``error``, or why another rank ended, if that led to it."""
        if self._thread is None or isinstance(error, (Stopped, OtherRankError)) or not _is_of_messages(error):
            return error
        limit = time.monotonic() + PATIENCE  # the news may be on its way
        while time.monotonic() < limit:
            if self._status > 128:
                return Stopped(self._status - 128)
            if self._failure is not None:
                return self._failure
            time.sleep(0.05)
        self._is_first_to_fail = True  # no other rank is the cause
        return error

    def end(self, after_first: bool = False) -> None:
        """Say good-bye to the other ranks, and let go of them.

        Args:
            after_first: wait until the first rank is done, which has more to do; but not if it may wait for this one.
        """
        if self._thread is None:
            return
        limit = time.monotonic() + LIMIT
        while after_first and self._rank and self._status == 2 and 0 not in self._ended and time.monotonic() < limit:
            time.sleep(0.05)
        self._is_over = True
        self._wake_up()
        self._thread.join(PATIENCE)
        self._thread = None

    def _wake_up(self) -> None:
        with contextlib.suppress(OSError):  # after the end
            self._wake.send(b".")

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_over:
            for key, _ in self._selector.select(_PULSE):
                if key.data is None:
                    self._waking.recv(64)
                else:
                    self._receive(key.data)
            self._tell_of_signals()
            self._tell_of_errors()
            self._end_in_time()
        self._tell_of_errors()
        self._send({"done": self._rank})
        self._selector.close()
        for each in (*self._peers.values(), self._wake, self._waking):
            each.close()

    def _receive(self, rank: int) -> None:
        try:
            data = self._peers[rank].recv(65536)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(self._peers[rank])
            if rank not in self._ended:
                self._handle({"gone": rank}, rank)
            return
        *lines, self._unread[rank] = (self._unread[rank] + data).split(b"\n")
        for line in lines:
            self._handle(json.loads(line), rank)

    def _handle(self, message: dict[str, Any], rank: int) -> None:
        """Act on a message that came from ``rank``; the first rank passes on those about the end of another."""
        match message:
            case {"signal": number}:
                self._ask(number)
            case {"ask": number}:
                self._send({"at": self._signals.ask(), "number": number})
            case {"at": report, "number": number}:
                self._report(rank, tuple(report), number)
            case {"leave": leave_at, "number": number}:
                self._leave(number, leave_at)
            case {"done": ended}:
                self._ended.add(ended)
                self._decide()
            case {"failed": ended, "sentence": sentence}:
                self._ended.add(ended)
                self._fail(f"rank {ended} on {self._hosts[ended]} has failed: {sentence}", is_reported=True)
                self._send(message, but=rank)
            case {"gone": ended}:
                self._ended.add(ended)
                host = self._hosts[ended]
                here = [one for one, name in enumerate(self._hosts) if name == self._hosts[self._rank] and one != ended]
                on = advice("go on with --ckpt_path last", "call fit again to go on")
                self._fail(
                    f"rank {ended} on {host} has ended without a word: it was killed, perhaps for want of memory, or"
                    f" its machine is gone; {on}.",
                    is_reported=self._rank != here[0],  # once on each machine
                )
                self._send(message, but=rank)

    def _fail(self, sentence: str, is_reported: bool) -> None:
        if self._failure is None:
            self._failure = OtherRankError(sentence, is_reported)
            self._start_deadline("" if is_reported else f"error: {self._failure}")

    def _start_deadline(self, final_message: str, status: int = 2) -> None:
        if self._since == float("inf"):
            self._since, self._final_message, self._status = time.monotonic(), final_message, status

    def _end_in_time(self) -> None:
        passed = time.monotonic() - self._since
        if passed > PATIENCE and self._failure is not None and "interrupted" not in self._sent:
            self._sent.add("interrupted")
            self._signals.interrupt(self._failure)
        if passed > LIMIT:
            if self._final_message:
                print_styled(
                    self._final_message if self._rank == 0 else f"rank {self._rank}: {self._final_message}", "red"
                )
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            os._exit(self._status)

    # --- signals ------------------------------------------------------------------------------------------------------

    def _tell_of_signals(self) -> None:
        if self._signals.number and "signal" not in self._sent:
            self._sent.add("signal")
            if self._rank == 0:
                self._ask(self._signals.number)
            else:
                self._send({"signal": self._signals.number})

    def _ask(self, number: int) -> None:
        """Let all ranks say how far they are, for the first of the signals that came."""
        if not self._is_asking:
            self._is_asking = True
            self._send({"ask": number})
            self._report(0, self._signals.ask(), number)

    def _report(self, rank: int, report: tuple[int, bool], number: int) -> None:
        self._reports[rank] = report
        self._asked_for = number
        self._decide()

    def _decide(self) -> None:
        """Let all leave, once every rank that has not ended says how far it is."""
        if not self._reports or len(self._reports.keys() | self._ended) < len(self._hosts):
            return
        number, reports = self._asked_for, [*self._reports.values()]
        self._reports.clear()
        leave_at = None if any(may_leave for _, may_leave in reports) else max(reached for reached, _ in reports)
        if leave_at is None and number == self._signals.requeue:
            self._signals.queue_again()  # while all are there: SLURM ends the job when one has left
        self._send({"leave": leave_at, "number": number})
        self._leave(number, leave_at)

    def _leave(self, number: int, leave_at: int | None) -> None:
        self._sent.add("signal")
        if leave_at is None:
            self._start_deadline(Stopped(number).sentence if self._rank == 0 else "", 128 + number)
        self._signals.decide(number, leave_at)

    # --- errors -------------------------------------------------------------------------------------------------------

    def _tell_of_errors(self) -> None:
        error = self._signals.error
        if error is None or isinstance(error, (Stopped, OtherRankError)) or "error" in self._sent:
            return
        if self._is_first_to_fail or not _is_of_messages(error):
            self._sent.add("error")
            sentence = str(error) if isinstance(error, InputError) else first_line(error)
            self._start_deadline(f"error: {sentence}")
            self._ended.add(self._rank)
            self._send({"failed": self._rank, "sentence": sentence})

    def _send(self, message: dict[str, Any], but: int | None = None) -> None:
        """Send a message to all ranks that this one is connected with; one that has ended needs none."""
        for rank, peer in self._peers.items():
            if rank != but:
                with contextlib.suppress(OSError):
                    peer.sendall(line_of(message))


def _is_of_messages(error: BaseException | None) -> bool:
    """Whether an exception says that a message between ranks failed, as after the end of another rank."""
    while error is not None:
        if "gloo/transport" in str(error) or isinstance(error, torch.distributed.DistError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _close_in_children(watch: Watch) -> None:
    """Let no forked process, as those that load images, hold a connection of a rank that was killed."""
    reference = weakref.ref(watch)

    def close() -> None:
        watch = reference()
        for peer in watch._peers.values() if watch is not None else ():
            peer.close()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=close)
