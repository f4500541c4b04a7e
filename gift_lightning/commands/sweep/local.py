"""Trials as processes of this machine, some at a time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gift_lightning.commands.sweep.file import Sweep
from gift_lightning.commands.sweep.signals import Interrupted, signals_heard
from gift_lightning.commands.sweep.state import results_of
from gift_lightning.commands.sweep.trials import Trial
from gift_lightning.files import unwritable
from gift_lightning.records.run_lock import writer_of

_PAUSE = 0.2  # seconds between two looks at the processes


class Processes:
    """Runs trials, ``count`` at a time; each writes what it says to ``.sweep/<trial>.txt`` in the sweep's folder.

    A trial that was stopped before goes on where it was. A signal that ends the sweep stops its trials, each where
    nothing is lost; a second one ends them at once. Trials of a sweep that was killed go on by themselves, and are
    waited for.

    Args:
        sweep: of the trials.
        count: trials at a time.
        report: shows a line on a trial that begins, ends or fails.
    """

    def __init__(self, sweep: Sweep, count: int, report: Callable[[str], None]) -> None:
        self._sweep, self._count, self._report = sweep, count, report
        self._running: dict[Trial, subprocess.Popen[bytes]] = {}
        self._awaited: set[Trial] = set()

    def run(self, trials: Sequence[Trial]) -> dict[str, str]:
        """Run those that are not finished.

        Returns:
            names of trials that failed, with the last line of what they said.

        Raises:
            Interrupted: by a signal, after the end of all trials that ran.
        """
        waiting, failed, told = list(trials), dict[str, str](), 0
        self._begun, self._total = 0, len(trials)
        with signals_heard() as heard:
            try:
                while self._running or (waiting and not heard):
                    if not heard:
                        self._start(waiting)
                    for number in heard[told:]:
                        self._send(number)
                        told += 1
                    failed |= self._ended(is_stopped=bool(heard))
                    time.sleep(_PAUSE)
            except BaseException:
                self._send(signal.SIGTERM)
                raise
            finally:
                for process in self._running.values():
                    process.wait()
        if heard:
            raise Interrupted(heard[0])
        return failed

    def _start(self, waiting: list[Trial]) -> None:
        """Begin as many trials as may run now, and take them from the list."""
        for trial in list(waiting):
            if len(self._running) >= self._count:
                return
            if results_of(self._sweep, trial) is not None:
                waiting.remove(trial)
            elif writer := writer_of(self._sweep.run(trial).path):
                if trial not in self._awaited:
                    self._report(f"{trial.name} is run by {writer}, and is waited for")
                    self._awaited.add(trial)
            else:
                waiting.remove(trial)
                self._begun += 1
                self._report(f"{trial.name} begins ({self._begun} of {self._total})")
                self._running[trial] = self._process(trial)

    def _process(self, trial: Trial) -> "subprocess.Popen[bytes]":
        log = self._log_of(trial)
        threads = str(max(1, (os.cpu_count() or 1) // self._count))
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with open(log, "ab") as file:
                return subprocess.Popen(
                    fit_command(self._sweep, trial),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    env={"OMP_NUM_THREADS": threads, **os.environ},
                    start_new_session=True,  # Ctrl-C reaches it once, from here
                )
        except OSError as error:
            raise unwritable(log, error) from error

    def _log_of(self, trial: Trial) -> Path:
        return self._sweep.notes / f"{trial.name}.txt"

    def _send(self, number: int) -> None:
        for process in self._running.values():
            process.send_signal(number)

    def _ended(self, is_stopped: bool) -> dict[str, str]:
        """Those that failed of the processes that have ended since the last look."""
        failed = {}
        for trial, process in list(self._running.items()):
            if (status := process.poll()) is None:
                continue
            del self._running[trial]
            if results_of(self._sweep, trial) is not None:  # also if it failed after its last word
                self._report(f"{trial.name} is finished")
            elif is_stopped:
                self._report(f"{trial.name} is stopped")
            else:
                failed[trial.name] = last_line(self._log_of(trial))
                self._report(f"{trial.name} failed with status {status}: {failed[trial.name]}")
        return failed


def fit_command(sweep: Sweep, trial: Trial) -> list[str]:
    """The words that begin a trial, or go on with it."""
    return [sys.executable, "-m", "gift_lightning", "fit", *sweep.words(trial), "--ckpt_path=last"]


def last_line(log: Path) -> str:
    """The last line of what a trial said, or that it said nothing."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else f"{log} is empty"
