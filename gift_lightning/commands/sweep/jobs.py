"""Trials as jobs of SLURM, or of this machine where there is none, by submitit."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from gift_lightning.commands.sweep.file import Sweep
from gift_lightning.commands.sweep.local import fit_command, last_line
from gift_lightning.commands.sweep.signals import Interrupted, signals_heard
from gift_lightning.commands.sweep.state import results_of
from gift_lightning.commands.sweep.trials import Trial
from gift_lightning.errors import InputError, first_line
from gift_lightning.files import read_json, write_json
from gift_lightning.records.run_lock import writer_of

_PAUSE = 1.0  # seconds between two looks at the jobs
_DEFAULTS = {"timeout_min": 24 * 60}  # submitit's own are some minutes
_ALIVE = ("PENDING", "RUNNING", "REQUEUED", "COMPLETING", "CONFIGURING", "SUSPENDED")


class Fit:
    """A trial as submitit calls it, in the job; before its end, by time or preemption, the run is stopped and the job
    requeued.

    Args:
        command: the words of the process.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        from submitit.core.job_environment import JobEnvironment

        # SLURM sends its signal to all processes of the job: this one alone answers to it
        ignored = JobEnvironment._usr_sig()
        self._process = subprocess.Popen(self.command, preexec_fn=lambda: signal.signal(ignored, signal.SIG_IGN))
        if status := self._process.wait():
            raise subprocess.CalledProcessError(status, self.command)

    def checkpoint(self) -> Any:
        """Stop the run where nothing is lost; the same job again."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        return DelayedSubmission(Fit(self.command))


class Jobs:
    """Runs trials as one array of jobs, and waits for them.

    A signal ends the waiting and not the jobs; ``.sweep/jobs.json`` has their ids, so that another call waits for them
    and submits no trial twice.

    Args:
        sweep: of the trials.
        report: shows a line on a trial that begins, ends or fails.

    Raises:
        InputError: submitit is not installed, or takes other parameters.
    """

    def __init__(self, sweep: Sweep, report: Callable[[str], None]) -> None:
        try:
            import submitit
        except ImportError as error:
            raise InputError("--launcher submitit needs a package: pip install 'gift-lightning[submitit]'.") from error
        self._sweep, self._report = sweep, report
        self._record = sweep.notes / "jobs.json"
        try:
            self._executor = submitit.AutoExecutor(folder=str(sweep.notes / "jobs"))
            self._executor.update_parameters(**{"name": sweep.name, **_DEFAULTS, **sweep.submitit})
        except (AssertionError, NameError, TypeError, ValueError) as error:
            raise InputError(f"{sweep.file}: submitit cannot use its parameters: {first_line(error)}") from error

    def run(self, trials: Sequence[Trial]) -> dict[str, str]:
        """Run those that are not finished.

        Returns:
            names of trials that failed, with the last line of what they said.

        Raises:
            Interrupted: by a signal; the jobs go on.
        """
        waiting = [trial for trial in trials if results_of(self._sweep, trial) is None]
        with signals_heard() as heard:
            jobs = self._adopted(waiting)
            busy = {trial: writer for trial in waiting if (writer := writer_of(self._sweep.run(trial).path))}
            jobs |= self._submitted([trial for trial in waiting if trial not in jobs and trial not in busy])
            failed = self._awaited(jobs, heard)
            for trial, writer in busy.items():
                if trial not in jobs and not heard:
                    failed[trial.name] = f"it is run by {writer}, wait for its end"
        if heard:
            raise Interrupted(heard[0])
        return failed

    def _adopted(self, trials: Sequence[Trial]) -> dict[Trial, Any]:
        """The jobs of an earlier call that wait or run."""
        known: dict[str, str] = read_json(self._record) if self._record.is_file() else {}
        jobs = {}
        for trial in trials:
            if trial.name in known:
                job = self._executor._executor.job_class(folder=self._executor.folder, job_id=known[trial.name])
                if job.state.upper() in _ALIVE:
                    jobs[trial] = job
                    self._report(f"{trial.name} is job {job.job_id} already")
        return jobs

    def _submitted(self, trials: Sequence[Trial]) -> dict[Trial, Any]:
        if not trials:
            return {}
        try:
            with self._executor.batch():
                jobs = {trial: self._executor.submit(Fit(fit_command(self._sweep, trial))) for trial in trials}
        except Exception as error:
            raise InputError(f"submitit could not submit the trials: {first_line(error)}") from error
        known = read_json(self._record) if self._record.is_file() else {}
        write_json(self._record, {**known, **{trial.name: job.job_id for trial, job in jobs.items()}})
        for trial, job in jobs.items():
            self._report(f"{trial.name} is job {job.job_id}")
        return jobs

    def _awaited(self, jobs: dict[Trial, Any], heard: list[int]) -> dict[str, str]:
        """Wait for the end of jobs, or for a signal; those that failed."""
        failed = {}
        while jobs and not heard:
            for trial, job in list(jobs.items()):
                if not job.done():
                    continue
                del jobs[trial]
                if results_of(self._sweep, trial) is not None:
                    self._report(f"{trial.name} is finished")
                else:
                    failed[trial.name] = last_line(job.paths.stderr)
                    self._report(f"{trial.name} failed: {failed[trial.name]}")
            time.sleep(_PAUSE)
        return failed
