"""Trials as processes of this machine, some at a time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gift_lightning.commands.sweep.trials import Sweep, Trial
from gift_lightning.errors import InputError
from gift_lightning.files import unwritable

_PAUSE = 0.2  # seconds between two looks at the processes


class Processes:
    """Runs trials, ``processes`` at a time; each writes what it says to ``<folder>/logs/<trial>.txt``.

    A trial that was stopped before goes on where it was. A signal that ends the sweep stops its trials, each where
    nothing is lost.

    Args:
        sweep: of the trials.
        words: of ``fit`` for all trials, after those of the sweep.
        report: shows a line of text on a trial that begins, ends or fails.
    """

    def __init__(self, sweep: Sweep, words: Sequence[str], report: Callable[[str], None]) -> None:
        self._sweep, self._words, self._report = sweep, list(words), report
        self._running: dict[Trial, subprocess.Popen[bytes]] = {}
        self._failed: list[str] = []

    def run(self, trials: Sequence[Trial]) -> list[str]:
        """Run them all; the names of those that failed."""
        waiting = list(trials)
        before = signal.signal(signal.SIGTERM, _stop)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self._sweep.processes:
                    trial = waiting.pop(0)
                    self._report(f"{trial.name} begins ({len(trials) - len(waiting)} of {len(trials)})")
                    self._running[trial] = self._begin(trial)
                self._collect()
                time.sleep(_PAUSE)
        except BaseException:
            self._end(signal.SIGTERM)
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
        return self._failed

    def _begin(self, trial: Trial) -> subprocess.Popen[bytes]:
        run = self._sweep.run(trial)
        flags = ["--run.root", run.root, "--run.name", run.name, "--ckpt_path", "last"]
        command = [sys.executable, "-m", "gift_lightning", "fit", *trial.words, *self._words, *flags]
        threads = str(max(1, (os.cpu_count() or 1) // self._sweep.processes))
        log = self.log_of(trial)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with open(log, "ab") as file:
                environment = {"OMP_NUM_THREADS": threads, **os.environ}
                # in a session of its own, so that Ctrl-C reaches it once, from here
                return subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, start_new_session=True
                )
        except OSError as error:
            raise unwritable(log, error) from error

    def log_of(self, trial: Trial) -> Path:
        """What the process of a trial said."""
        return self._sweep.folder / "logs" / f"{trial.name}.txt"

    def _collect(self) -> None:
        for trial, process in list(self._running.items()):
            if (status := process.poll()) is None:
                continue
            del self._running[trial]
            if status:
                self._failed.append(trial.name)
                self._report(f"{trial.name} failed with status {status}: {_last_line(self.log_of(trial))}")
            else:
                self._report(f"{trial.name} is finished")

    def _end(self, number: int) -> None:
        for process in self._running.values():
            process.send_signal(number)
        for process in self._running.values():
            process.wait()


def _stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else f"{log} is empty"


def check_flags(words: Sequence[str]) -> None:
    """Raise an ``InputError`` for flags that a sweep sets itself."""
    for word in words:
        if word.partition("=")[0] in ("--run.root", "--run.name", "--ckpt_path", "--config"):
            raise InputError(f"{word} is for one run: write it into the file of the sweep, or leave it out.")
