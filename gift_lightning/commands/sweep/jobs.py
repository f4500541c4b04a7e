"""Trials as jobs of SLURM, or of this machine where there is none, by submitit."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

from gift_lightning.commands.sweep.file import Sweep
from gift_lightning.commands.sweep.local import fit_command, last_line
from gift_lightning.commands.sweep.signals import Interrupted
from gift_lightning.commands.sweep.state import results_of
from gift_lightning.commands.sweep.trials import Trial
from gift_lightning.errors import InputError, first_line
from gift_lightning.files import read_json, write_json
from gift_lightning.records.json_types import misfit
from gift_lightning.records.run_lock import writer_of

_PAUSE = 1.0  # seconds between two looks at the jobs
_GRACE = 120.0  # seconds from SLURM's SIGTERM to its signal to requeue, at most
_DEFAULTS = {"timeout_min": 24 * 60}  # submitit's own are some minutes
_OVER = (  # states of SLURM, and of submitit's own jobs
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"),
    *("FINISHED", "INTERRUPTED", "NO PROCESS"),
)


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
        status = _status_of(self._process)
        if status in (-signal.SIGTERM, 128 + signal.SIGTERM):  # of SLURM, to all processes, before that signal
            time.sleep(_GRACE)
        if status:
            raise subprocess.CalledProcessError(status, self.command)

    def checkpoint(self) -> Any:
        """Stop the run where nothing is lost; the same job again."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            self._process.terminate()
            _status_of(self._process)
        return DelayedSubmission(Fit(self.command))


def _status_of(process: "subprocess.Popen[bytes]") -> int:
    """Wait for the exit status without a lock: a signal's handler may wait for it too."""
    while (status := process.poll()) is None:
        time.sleep(0.2)
    return status


class Jobs:
    """Runs trials as one array of jobs, and waits for them.

    A signal ends the waiting and not the jobs; ``.sweep/jobs.json`` has their ids, so that another call waits for them
    and submits no trial twice.

    Args:
        sweep: of the trials.
        heard: signals that have come, see ``signals_heard``.
        report: shows a line on a trial that begins, ends or fails.

    Raises:
        InputError: submitit is not installed, or takes other parameters.
    """

    def __init__(self, sweep: Sweep, heard: list[int], report: Callable[[str], None]) -> None:
        try:
            import submitit
        except ImportError as error:
            raise InputError('--launcher submitit needs a package: pip install "gift-lightning[submitit]".') from error
        self._sweep, self._heard, self._report = sweep, heard, report
        self._record = sweep.notes / "jobs.json"
        try:
            self._executor = submitit.AutoExecutor(folder=str(sweep.notes / "jobs"))
            self._executor.update_parameters(**{"name": sweep.name, **_DEFAULTS, **sweep.submitit})
        except (AssertionError, NameError, TypeError, ValueError) as error:
            raise InputError(f"{sweep.file}: submitit cannot use its parameters: {first_line(error)}") from error
        if self._executor.cluster == "local":
            report("SLURM is not on this machine: the jobs begin here, all at once")

    def run(self, trials: Sequence[Trial]) -> dict[str, str]:
        """Run those that are not finished.

        Returns:
            names of trials that failed, with the last line of what they said.

        Raises:
            Interrupted: by a signal; the jobs go on.
        """
        waiting = [trial for trial in trials if results_of(self._sweep, trial) is None]
        jobs = self._adopted(waiting)
        for trial in waiting:
            if trial not in jobs and (writer := self._writer(trial)):
                self._report(f"{trial.name} is run by {writer}, and is waited for")
                while self._writer(trial) and not self._heard:
                    time.sleep(_PAUSE)
        if not self._heard:
            jobs |= self._submitted([trial for trial in waiting if trial not in jobs and not self._is_finished(trial)])
        failed = self._awaited(jobs)
        if self._heard:
            raise Interrupted(self._heard[0])
        return failed

    def _writer(self, trial: Trial) -> str:
        return writer_of(self._sweep.run(trial).path)

    def _is_finished(self, trial: Trial) -> bool:
        return results_of(self._sweep, trial) is not None

    def _known(self) -> dict[str, str]:
        """The ids of jobs by their trials."""
        known = read_json(self._record) if self._record.is_file() else {}
        if fault := misfit(known, dict[str, str]):
            raise InputError(
                f"{self._record} is damaged ({fault}): delete it once no job of the sweep is in the queue."
            )
        return dict(known)

    def _adopted(self, trials: Sequence[Trial]) -> dict[Trial, Any]:
        """The jobs of an earlier call that are not over."""
        known, jobs = self._known(), {}
        for trial in trials:
            if trial.name in known:
                job = self._executor._executor.job_class(folder=self._executor.folder, job_id=known[trial.name])
                if not _is_over(job):
                    jobs[trial] = job
                    gone = f"; if the queue has none, delete {self._record}" if job.state == "UNKNOWN" else ""
                    self._report(f"{trial.name} is job {job.job_id} already ({job.state}){gone}")
        return jobs

    def _submitted(self, trials: Sequence[Trial]) -> dict[Trial, Any]:
        if not trials:
            return {}
        known = self._known()
        try:
            with self._executor.batch():
                jobs = {trial: self._executor.submit(Fit(fit_command(self._sweep, trial))) for trial in trials}
        except Exception as error:
            raise InputError(f"submitit could not submit the trials: {first_line(error)}") from error
        write_json(self._record, {**known, **{trial.name: job.job_id for trial, job in jobs.items()}})
        for trial, job in jobs.items():
            self._report(f"{trial.name} is job {job.job_id}, output in {job.paths.stdout}")
        return jobs

    def _awaited(self, jobs: dict[Trial, Any]) -> dict[str, str]:
        """Wait for the end of jobs, or for a signal; those that failed."""
        failed = {}
        while jobs and not self._heard:
            for trial, job in list(jobs.items()):
                if self._is_finished(trial):
                    del jobs[trial]
                    self._report(f"{trial.name} is finished")
                elif _is_over(job) and not self._writer(trial):
                    del jobs[trial]
                    failed[trial.name] = (
                        last_line(job.paths.stderr) or f"its job is {job.state}, see {job.paths.stderr}"
                    )
                    self._report(f"{trial.name} failed: {failed[trial.name]}")
            time.sleep(_PAUSE)
        return failed


def _is_over(job: Any) -> bool:
    """Whether a job has ended for good; of an unknown state it has not."""
    return str(job.state).upper().startswith(_OVER)
