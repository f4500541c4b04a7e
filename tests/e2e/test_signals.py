"""A signal stops a run at a point where nothing is lost; it goes on from there, bit-identical."""

import inspect
import os
import re
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch
import pytest
import torch
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.strategies.launchers import subprocess_script
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from datamodules.signals import Signals, Stopped
from gift_lightning.runs.python import fit as fit_in_python
from tests.e2e.conftest import CONFIG, assert_same_run, fit_here, kill_at, start_ranks, statuses_of
from tests.e2e.kill import KillAt
from tests.e2e.test_python import HERE, folder, l2, three_tasks

TERM, USR1 = int(signal.SIGTERM), int(signal.SIGUSR1)
SLURM = {"SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "test", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1"}
SLURM |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
TWO_STEPS = ["--data.steps", "2"]


def test_lightning_has_no_other_handlers_than_those_that_are_replaced() -> None:
    """The internals of Lightning that ``stoppable`` and ``Signals`` take the place of."""
    names = {name for name in vars(_SignalConnector) if not name.startswith("_")}
    assert names == {"register_signal_handlers", "teardown"} <= set(dir(Signals))
    sources = {path: path.read_text() for path in Path(lightning.pytorch.__file__).parent.rglob("*.py")}
    used = {name for text in sources.values() for name in re.findall(r"\._signal_connector\.(\w+)", text)}
    assert used == {"register_signal_handlers", "teardown", "received_sigterm"}
    registering = {path.name for path, text in sources.items() if re.search(r"signal\.signal\(", text)}
    assert registering == {"signal_connector.py", "call.py"}  # the latter: of Ctrl-C, at the end
    assert "self._broadcast_sigterm_tensor()" in inspect.getsource(_TrainingEpochLoop.advance)
    assert "_launch_process_observer(self.procs)" in inspect.getsource(subprocess_script)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (TERM, USR1, signal.SIGINT)]


MOMENTS = {
    # event, number, flags, and the step of the last checkpoint; a run with flags does not go on
    "the last step of a task": ("step", 15, [], 16),
    "evaluation": ("evaluate", 3 + 1, [], 6),
    "accumulated batches": ("step", 1, [*TWO_STEPS, "--trainer.accumulate_grad_batches", "4"], 2),
    "the start": ("setup", 0, TWO_STEPS, None),
    "zero-shot evaluation": ("evaluate", 1, TWO_STEPS, None),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_sigterm_stops_where_nothing_is_lost(moment: str, tmp_path: Path, reference: Path) -> None:
    event, number, flags, step = MOMENTS[moment]
    before = handlers()
    status, _, err = fit_here(tmp_path, *flags, *kill_at(event, number, signal_number=TERM))
    assert (status, err.splitlines()[-1]) == (143, "stopped by SIGTERM: go on with --ckpt_path last.")
    assert handlers() == before
    assert not (tmp_path / "three_tasks" / ".lock").exists()
    file = tmp_path / "three_tasks" / "checkpoints" / "last.ckpt"
    assert (torch.load(file, weights_only=True)["global_step"] if file.exists() else None) == step
    if not flags:
        status, _, err = fit_here(tmp_path, "--ckpt_path", "last")
        assert status == 0, err
        assert_same_run(tmp_path / "three_tasks", reference)


def test_slurm_queues_the_job_again(tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = with_slurm(tmp_path, monkeypatch)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "77")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    status, _, err = fit_here(tmp_path, *kill_at("step", 11, signal_number=USR1))
    assert (status, err) == (138, "stopped by SIGUSR1: SLURM queues it again.\n")
    assert queue.read_text() == "requeue 77_3\n"
    status, _, err = fit_here(tmp_path, "--ckpt_path", "last")
    assert status == 0, err
    assert_same_run(tmp_path / "three_tasks", reference)


def test_a_job_that_slurm_does_not_queue_again_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_slurm(tmp_path, monkeypatch, answer="echo Job is held >&2; exit 1")
    status, _, err = fit_here(tmp_path, *kill_at("evaluate", 0, signal_number=USR1))
    assert status == 138
    assert err == "stopped by SIGUSR1: SLURM cannot queue the job again (Job is held): go on with --ckpt_path last.\n"


def with_slurm(root: Path, monkeypatch: pytest.MonkeyPatch, answer: str = "") -> Path:
    """Let this process be in a job of a SLURM whose ``scontrol`` notes what it is asked for in the file returned."""
    for name, value in (SLURM | {"PATH": f"{scontrol(root, answer)}{os.pathsep}{os.environ['PATH']}"}).items():
        monkeypatch.setenv(name, value)
    return root / "queue.txt"


def scontrol(root: Path, answer: str = "") -> Path:
    folder = root / "bin"
    folder.mkdir()
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {root / "queue.txt"}\n{answer}\n')
    (folder / "scontrol").chmod(0o755)
    return folder


def test_a_checkpoint_of_lightnings_handler_is_used_and_removed(tmp_path: Path, reference: Path) -> None:
    assert fit_here(tmp_path, *kill_at("step", 11, signal_number=TERM))[0] == 143
    run = tmp_path / "three_tasks"
    last, earlier = run / "checkpoints" / "last.ckpt", run / "hpc_ckpt_1.ckpt"
    last.rename(earlier)
    last.write_bytes(b"older")
    os.utime(last, (0, 0))
    status, _, err = fit_here(tmp_path, "--ckpt_path", "last")
    assert status == 0, err
    assert not earlier.exists()
    assert_same_run(run, reference)


def test_a_time_limit_is_one_for_each_call(tmp_path: Path, reference: Path) -> None:
    limit = ["--trainer.max_time", "{milliseconds: 1}", "--ckpt_path", "last"]
    for step in (1, 2):
        status, _, err = fit_here(tmp_path, *limit)
        assert status == 2
        assert f"stopped at step {step}, after 0 of 3 tasks: go on with --ckpt_path last." in err
        assert err.startswith("error: trainer.max_time has passed: the run was")
    status, _, err = fit_here(tmp_path, "--ckpt_path", "last")
    assert status == 0, err
    assert_same_run(tmp_path / "three_tasks", reference)


def test_what_stops_a_trainer_waits_for_accumulated_batches(tmp_path: Path) -> None:
    timer = ["--trainer.callbacks+=Timer", "--trainer.callbacks.duration", "{milliseconds: 1}"]
    status, _, err = fit_here(tmp_path, *TWO_STEPS, *timer, "--trainer.accumulate_grad_batches", "4")
    assert status == 2 and "stopped at step 1, after 0 of 3 tasks" in err
    checkpoint = tmp_path / "three_tasks" / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 1


def test_from_python_a_signal_ends_the_program(tmp_path: Path, capfd: Any) -> None:
    before = handlers()
    with pytest.raises(SystemExit) as stopped:
        fit_in_python(l2(), three_tasks(), run=folder(tmp_path), callbacks=KillAt("step", 1, TERM), **HERE)
    assert stopped.value.code == 143 and isinstance(stopped.value, Stopped)
    assert capfd.readouterr().err.endswith("stopped by SIGTERM: call fit again to go on.\n")
    assert handlers() == before


# --- two ranks --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks that nothing stops."""
    root = tmp_path_factory.mktemp("whole")
    assert two_ranks(root) == [0, 0], (root / "log.txt").read_text()
    return root / "three_tasks"


def two_ranks(root: Path, *flags: str, **options: Any) -> list[int]:
    argv = ["fit", "--config", CONFIG, "--run.root", str(root), *TWO_STEPS, *flags]
    return statuses_of(start_ranks(2, argv, root / "log.txt", **options), 60)


OF_TWO = {
    "SIGUSR1 to both in a step": (kill_at("step", 3, signal_number=USR1), 138),
    "SIGTERM to the second in a step": (kill_at("step", 3, signal_number=TERM, rank=1), 143),
    "SIGTERM to the second in zero-shot evaluation": (kill_at("evaluate", 1, signal_number=TERM, rank=1), 143),
    "a time limit": (["--trainer.max_time", "{milliseconds: 1}"], 2),
}


@pytest.mark.parametrize("case", OF_TWO)
def test_two_ranks_leave_together_and_go_on(case: str, tmp_path: Path, whole: Path) -> None:
    flags, expected = OF_TWO[case]
    path = f"{scontrol(tmp_path)}{os.pathsep}{os.environ['PATH']}"
    assert two_ranks(tmp_path, *flags, slurm=expected == 138, PATH=path) == [expected] * 2
    said = (tmp_path / "log.txt").read_text()
    assert "Traceback" not in said and said.count("stopped ") == (2 if expected == 2 else 1), said
    assert (tmp_path / "queue.txt").exists() == (expected == 138)
    if "step" in case:
        assert two_ranks(tmp_path, "--ckpt_path", "last") == [0, 0], (tmp_path / "log.txt").read_text()
        assert_same_run(tmp_path / "three_tasks", whole)


def test_a_rank_that_is_killed_ends_the_other_with_a_sentence(tmp_path: Path) -> None:
    assert two_ranks(tmp_path, *kill_at("evaluate", 1, rank=1)) == [2, -9]
    said = (tmp_path / "log.txt").read_text()
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(f"error: rank 1 on {os.uname().nodename} has ended without a word"), said
