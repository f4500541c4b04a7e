"""Signals to a run: a handler raises a flag, and all ranks leave together at a point where nothing is lost."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

from lightning import Trainer
from lightning.fabric.plugins.environments import SLURMEnvironment

from gift_lightning.errors import first_line

OUT_OF_TIME = int(getattr(signal, "SIGXCPU", 24))
"""Stands for the end of ``trainer.max_time`` among signals, so that ranks agree on it in the same way: the kernel's
signal for time that is used up, which a run does not receive."""


_SECONDS_OF_SLURM = 20.0


class Stopped(SystemExit):
    """A signal has stopped the run: the exit status is 128 and its number, as that of a program which it kills.

    Attributes:
        number: of the signal.
        sentence: says so, and how the run goes on.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number
        self.sentence = f"stopped by {signal.Signals(number).name}."


class Signals:
    """Stands in the place of Lightning's handlers, which save and wait for the other ranks inside of a signal.

    SIGTERM, and under SLURM its signal to requeue, only raise a flag. The run leaves at the next safe point:

    * the end of an optimiser step, where it saves a checkpoint
    * the end of a task's steps, and the boundary's checkpoint
    * outside of a task's end, between two batches of images that are drawn, read or encoded

    So a signal takes effect after one step or batch of images. What happens at a task's end (averaging, fusion,
    prototypes, evaluation, reports) is not interrupted: mostly its evaluation, whose seconds are in ``results.json``.
    Before the first checkpoint nothing can be lost, and the run leaves at once.

    Ranks pass the same safe points, whose numbers ``safe_point`` counts. When a rank has a signal, all tell how far
    they are, and leave at the highest of these numbers: ``Watch`` of ``gift_lightning.runs`` carries the messages.
    Without a signal, nothing is sent, and no step waits for another rank or a device.

    After the run the process has its own handlers, and so has each of several ranks until its training begins: a signal
    at the start ends it as it ends any other.

    Args:
        trainer: of the run.

    Attributes:
        received_sigterm: Lightning's loops leave by themselves where it is true; always false here.
        number: of the signal that came, 0 before.
        requeue: SLURM's signal to save and queue the job again; ``None`` elsewhere.
        at_once: whether the run may leave anywhere.
        error: an exception that ends this rank.
        on_signal: is called when a signal has come.
    """

    received_sigterm = False

    def __init__(self, trainer: Trainer) -> None:
        environment = trainer._accelerator_connector.cluster_environment
        self.requeue: int | None = None
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            self.requeue = environment.requeue_signal
        self.number = 0
        self.at_once = True
        self.error: BaseException | None = None
        self.on_signal: Callable[[], None] = lambda: None
        self._trainer = trainer
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}
        self._pending: BaseException | None = None
        self._held = False
        self._lock = threading.Lock()
        self._next = 0  # safe point
        self._is_asking = False
        self._decided = threading.Event()
        self._leave_at = -1
        self._queueing = threading.Lock()
        self._fault: str | None = None

    # --- what Lightning calls -----------------------------------------------------------------------------------------

    def register_signal_handlers(self) -> None:
        """Hear signals from now on; Lightning calls it before the first hook of the training loop."""
        if threading.current_thread() is threading.main_thread():
            numbers = {int(signal.SIGTERM)} if self.requeue is None else {int(signal.SIGTERM), self.requeue}
            for number in numbers - self._previous.keys():
                previous = signal.getsignal(number)
                if number == signal.SIGTERM or previous in (None, signal.SIG_DFL):  # a user's own is left alone
                    signal.signal(number, self._handle)
                    self._previous[number] = previous
        self._raise_pending()

    def teardown(self) -> None:
        """Go on to hear signals: Lightning calls it before the run is over."""

    def restore(self) -> None:
        """Put back the handlers that the process had."""
        while self._previous:
            number, previous = self._previous.popitem()
            signal.signal(number, previous if previous is not None else signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # one that was forked, to load data
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self._raise_pending()
        self.raise_flag(number)
        if self._trainer.world_size == 1 and self.at_once:
            self.at_once = False  # a second one does not disturb the end
            raise Stopped(self.number)

    def raise_flag(self, number: int) -> None:
        """Raise the flag; of several signals, the first counts, and any before the end of the time."""
        if self.number in (0, OUT_OF_TIME):
            self.number = number
            self.on_signal()

    # --- safe points --------------------------------------------------------------------------------------------------

    def safe_point(self) -> bool:
        """Whether the run leaves here: the same answer on all ranks, which pass this point in the same order.

        Waits, if another rank has a signal, for what they agree on.
        """
        if self._held:
            return False
        if self._trainer.world_size == 1:
            return self.number > 0
        with self._lock:
            if not self._is_asking:
                self._next += 1
                return False
        while not self._decided.wait(0.2):
            if not self._previous:  # not in the main thread: no signal ends the wait
                self._raise_pending()
        self._next += 1
        return self._next > self._leave_at

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it there are no safe points."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def leave(self) -> None:
        """End the run, by ``Stopped``; after its limit of time, as it ends after its last task."""
        if self.number != OUT_OF_TIME:
            raise Stopped(self.number)
        self._trainer.should_stop = True

    def queue_again(self) -> str:
        """Put this job into SLURM's queue again, once; returns why it could not be done, empty after success."""
        with self._queueing:
            if self._fault is None:
                self._fault = _requeue()
            return self._fault

    # --- what other threads call --------------------------------------------------------------------------------------

    def ask(self) -> tuple[int, bool]:
        """Let the next safe point wait for a decision; returns its number, and whether this rank may leave anywhere."""
        with self._lock:
            self._is_asking = True
            return self._next, self.at_once

    def decide(self, number: int, leave_at: int | None) -> None:
        """Let the run leave for the signal ``number`` at a safe point, or at once."""
        self.number = number
        if leave_at is None:
            self.interrupt(Stopped(number))
        else:
            self._leave_at = leave_at
            self._decided.set()

    def interrupt(self, error: BaseException) -> None:
        """Raise an exception in the main thread, as soon as it is in Python, unless another one ends it already."""
        if self.error is None:
            self._pending = error
            if self._previous and hasattr(signal, "pthread_kill"):  # our handler throws it; the signal ends a wait
                signal.pthread_kill(cast(int, threading.main_thread().ident), signal.SIGTERM)

    def _raise_pending(self) -> None:
        if self._pending is not None:
            error, self._pending = self._pending, None
            raise error


def signals_of(trainer: Trainer) -> Signals:
    """The signals of a run; with a trainer of the user's own, whose signals Lightning handles, some that hear none."""
    connector = cast(Any, trainer)._signal_connector
    return connector if isinstance(connector, Signals) else Signals(trainer)


def _requeue() -> str:
    job = os.environ.get("SLURM_JOB_ID", "")
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    command = ["scontrol", "requeue", job]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_OF_SLURM)
    except (OSError, subprocess.TimeoutExpired) as error:
        return first_line(error).rstrip(".")
    return "" if done.returncode == 0 else " ".join(done.stderr.split()) or f"status {done.returncode}"
