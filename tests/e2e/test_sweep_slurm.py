"""Trials as jobs of SLURM, whose commands are played by scripts: the queue is real to submitit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import CONFIG, read_results
from tests.e2e.test_sweep import command, start, sweep_file, wait_for

pytest.importorskip("submitit")

SCRIPTS = {
    "sbatch": 'cp "$1" "$QUEUE/job.sh"; echo 1 >> "$QUEUE/count"; echo "Submitted batch job 77"',
    "srun": "exit 1",
    "sacct": 'echo "JobID|State|NodeList"; for i in 0 1; do echo "77_$i|$(cat "$QUEUE/state")|node1"; done',
}


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a queue, and its commands on the path."""
    place = tmp_path / "queue"
    place.mkdir()
    for name, text in SCRIPTS.items():
        (place / name).write_text(f"#!/bin/bash\n{text}\n")
        (place / name).chmod(0o755)
    (place / "state").write_text("PENDING")
    monkeypatch.setenv("QUEUE", str(place))
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")
    return place


@pytest.mark.slow
def test_a_job_in_the_queue_is_not_submitted_again(queue: Path, tmp_path: Path) -> None:
    grid = {"method": {"l2": CONFIG}, "seed_everything": [0, 1]}
    parameters = {"slurm_partition": "gpu", "timeout_min": 90, "cpus_per_task": 2}
    file, log = sweep_file(tmp_path, grid=grid, submitit=parameters), tmp_path / "log.txt"
    notes = tmp_path / "runs" / "grid" / ".sweep"
    first = start(file, log, "--launcher", "submitit")
    wait_for(notes / "jobs.json", first, log)
    text = (queue / "job.sh").read_text()
    assert "--partition=gpu" in text and "--time=90" in text and "--array=0-1" in text and "--cpus-per-task=2" in text
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130, log.read_text()
    second = start(file, log, "--launcher", "submitit")
    while "l2,seed=1 is job 77_1 already" not in log.read_text():
        assert second.poll() is None, log.read_text()
        time.sleep(0.1)
    # what srun would start on the node
    environment = {"SLURM_JOB_ID": "78", "SLURM_ARRAY_JOB_ID": "77", "SLURM_PROCID": "0"}
    environment |= {"SLURM_LOCALID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"}
    environment |= {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_NAME": "grid", "SLURM_JOB_NODELIST": "node1"}
    (queue / "state").write_text("RUNNING")
    started = [sys.executable, "-u", "-m", "submitit.core._submit", str(notes / "jobs")]
    for number in ("0", "1"):
        there = {**os.environ, **environment, "SLURM_ARRAY_TASK_ID": number}
        subprocess.run(started, env=there, check=True, capture_output=True)
    (queue / "state").write_text("COMPLETED")
    assert second.wait(100) == 0, log.read_text()
    assert all(read_results(tmp_path / "runs" / "grid" / f"l2,seed={seed}")["complete"] for seed in (0, 1))
    assert (queue / "count").read_text().split() == ["1"]


def test_parameters_that_submitit_does_not_take(queue: Path, tmp_path: Path) -> None:
    file = sweep_file(tmp_path, grid={"method": {"l2": CONFIG}}, submitit={"slurm_partitoin": "gpu"})
    done = subprocess.run(command(file, "--launcher", "submitit"), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "submitit cannot use its parameters: " in done.stderr, done.stderr
    assert done.stderr.count("\n") == 2  # with the line of the number of trials


def test_a_job_that_is_preempted_stops_its_run_and_is_queued_again(tmp_path: Path) -> None:
    """With the signals of submitit's own handler, which comes in the middle of the waiting."""
    child = tmp_path / "child.py"
    child.write_text(
        "import signal, sys, time, pathlib\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(60)\n"
    )
    job = tmp_path / "job.py"
    job.write_text(
        "import signal, sys\n"
        "from gift_lightning.commands.sweep.jobs import Fit\n"
        f"fit = Fit([sys.executable, {str(child)!r}])\n"
        "def handler(*_):\n"
        "    again = fit.checkpoint()\n"
        "    print('again', again.function.command == fit.command)\n"
        "    sys.exit(7)\n"
        "signal.signal(signal.SIGUSR2, handler)\n"
        "fit()\n"
    )
    process = subprocess.Popen([sys.executable, str(job)], stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR2)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 7 and out == "again True\n"
