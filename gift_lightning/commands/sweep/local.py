"""Trials as processes of this machine, some at a time."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from gift_lightning.commands.sweep.file import Sweep
from gift_lightning.commands.sweep.signals import Interrupted
from gift_lightning.commands.sweep.state import results_of
from gift_lightning.commands.sweep.trials import Trial
from gift_lightning.errors import InputError
from gift_lightning.files import unwritable
from gift_lightning.records.run_lock import writer_of

_PAUSE = 0.5  # seconds between two looks at the processes


class Processes:
    """Runs trials, ``count`` at a time; each writes what it says to ``.sweep/<trial>.txt`` in the sweep's folder.

    A trial that was stopped before goes on where it was. A signal that ends the sweep stops its trials, each where
    nothing is lost; a second one kills them. Trials of a sweep that was killed go on by themselves, and are waited for.

    Args:
        sweep: of the trials.
        count: trials at a time.
        heard: signals that have come, see ``signals_heard``.
        report: shows a line on a trial that begins, ends or fails.

    Raises:
        InputError: the count is below 1.
    """

    def __init__(self, sweep: Sweep, count: int, heard: list[int], report: Callable[[str], None]) -> None:
        if count < 1:
            raise InputError(f"--processes must be a whole number of at least 1, not '{count}'.")
        self._sweep, self._count, self._heard, self._report = sweep, count, heard, report
        self._seen = 0  # trials that were finished or have begun, in all calls of ``run``
        self._running: dict[Trial, tuple[subprocess.Popen[bytes], int]] = {}  # process, and size of its log before
        self._awaited: set[Trial] = set()  # those that processes of an earlier call run

    def run(self, trials: Sequence[Trial]) -> dict[str, str]:
        """Run those that are not finished.

        Returns:
            names of trials that failed, with the last line of what they said.

        Raises:
            Interrupted: by a signal, after the end of all trials that ran.
        """
        waiting, failed, told = list(trials), dict[str, str](), 0
        try:
            while self._running or (waiting and not self._heard):
                if not self._heard:
                    self._start(waiting)
                for _ in self._heard[told:]:
                    self._send(signal.SIGKILL if told else signal.SIGTERM)
                    told += 1
                for trial, process, log_start in self._ended():
                    if results_of(self._sweep, trial) is not None:  # also if it failed after its last word
                        self._report(f"{trial.name} is finished")
                    elif self._heard:
                        self._report(f"{trial.name} is stopped")
                    elif writer_of(self._sweep.run(trial).path):  # an earlier process was faster
                        waiting.append(trial)
                    else:
                        failed[trial.name] = _reason(process.returncode, self._log_of(trial), log_start)
                        self._report(f"{trial.name} failed: {failed[trial.name]}")
                time.sleep(_PAUSE)
        finally:
            if self._running and not told:
                self._send(signal.SIGTERM)
            for process, _ in self._running.values():
                process.wait()
        if self._heard:
            raise Interrupted(self._heard[0])
        return failed

    def _start(self, waiting: list[Trial]) -> None:
        """Begin as many trials as may run now, and take them from the list."""
        writers = {trial: writer for trial in waiting if (writer := writer_of(self._sweep.run(trial).path))}
        for trial, writer in writers.items():
            if trial not in self._awaited:
                self._report(f"{trial.name} is run by {writer}, and is waited for")
                self._awaited.add(trial)
        for trial in [trial for trial in waiting if trial not in writers]:
            if len(self._running) + len(writers) >= self._count:
                return
            waiting.remove(trial)
            self._seen += 1
            if results_of(self._sweep, trial) is None:
                log = self._log_of(trial)
                self._report(f"{trial.name} begins ({self._seen} of {self._sweep.count}), output in {log}")
                self._running[trial] = self._process(trial, log)

    def _process(self, trial: Trial, log: Path) -> "tuple[subprocess.Popen[bytes], int]":
        threads = str(max(1, (os.cpu_count() or 1) // self._count))
        words = fit_command(self._sweep, trial)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with open(log, "ab") as file:
                file.write(f"[{datetime.now():%Y-%m-%d %H:%M:%S}] {shlex.join(words)}\n".encode())
                file.flush()
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    env={"OMP_NUM_THREADS": threads, **os.environ},
                    start_new_session=True,  # Ctrl-C reaches it once, from here
                )
                return process, file.tell()
        except OSError as error:
            raise unwritable(log, error) from error

    def _ended(self) -> "list[tuple[Trial, subprocess.Popen[bytes], int]]":
        """The processes that have ended since the last look."""
        over = [(trial, *started) for trial, started in self._running.items() if started[0].poll() is not None]
        for trial, *_ in over:
            del self._running[trial]
        return over

    def _log_of(self, trial: Trial) -> Path:
        return self._sweep.notes / f"{trial.name}.txt"

    def _send(self, number: int) -> None:
        for process, _ in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    os.killpg(process.pid, number)  # with its ranks and loaders
                else:
                    process.send_signal(number)


def fit_command(sweep: Sweep, trial: Trial) -> list[str]:
    """The words that begin a trial, or go on with it."""
    config = str(sweep.config(trial))
    return [sys.executable, "-m", "gift_lightning", "fit", f"--config={config}", "--ckpt_path=last"]


def last_line(log: Path, start: int = 0) -> str:
    """The last line of what a trial said from a place in its log on; empty if it said nothing."""
    try:
        text = log.read_bytes()[start:].decode(errors="replace")
    except OSError:
        text = ""
    return (text.strip().splitlines() or [""])[-1].removeprefix("error: ")


def _reason(status: int, log: Path, start: int) -> str:
    if status < 0:
        return f"it was killed by {signal.Signals(-status).name}, see {log}"
    return last_line(log, start) or f"it ended with status {status}, see {log}"
