"""Two ranks compute what one process computes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import (
    CONFIG,
    assert_same_run,
    kill_at,
    read_results,
    run_command,
    run_on_ranks,
)
from tests.e2e.gradients import keep_steps
from tests.e2e.same import GRADIENTS, assert_same_end, assert_same_steps, walked

LAUNCHERS = {
    "lightning": [sys.executable, "-m", "gift_lightning"],
    "torchrun": [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        "-m",
        "gift_lightning",
    ],
}
TWO_RANKS = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
FLOAT64 = ["--trainer.precision", "64-true"]
COARSER = 2**29
"""How much coarser float32 rounds than float64."""


def fit_on_two_ranks(root: Path, *flags: str) -> Path:
    status = run_on_ranks(2, ["fit", "--config", CONFIG, "--run.root", str(root), *flags], root / "log.txt")
    assert status == 0, (root / "log.txt").read_text()
    return root / "three_tasks"


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float64 run in one process."""
    root = tmp_path_factory.mktemp("one")
    assert run_command(["fit", "--config", CONFIG, "--run.root", str(root), *FLOAT64], root / "log") == 0
    return root / "three_tasks"


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_ranks_equal_one_process(launcher: str, one_process: Path, tmp_path: Path) -> None:
    command = [*LAUNCHERS[launcher], "fit", "--config", CONFIG, "--run.root", str(tmp_path), *TWO_RANKS, *FLOAT64]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same_end(tmp_path / "three_tasks", one_process)


def test_killed_on_one_rank_resumed_on_two(one_process: Path, tmp_path: Path) -> None:
    command = ["fit", "--config", CONFIG, "--run.root", str(tmp_path), *FLOAT64, *kill_at("step", 11)]
    assert run_command(command, tmp_path / "log") == -9
    folder = fit_on_two_ranks(tmp_path, *FLOAT64, "--ckpt_path", "last")
    assert_same_end(folder, one_process)


def test_float32_stays_close(small_vit: str, tmp_path: Path) -> None:
    flags = ["--model.clip.name", small_vit, "--model.lr", "3e-4", "--data.steps", "10"]
    one, two = tmp_path / "one", tmp_path / "two"
    two.mkdir()
    command = ["fit", "--config", CONFIG, "--run.root", str(one), *flags, *keep_steps(one / "steps")]
    assert run_command(command, tmp_path / "log") == 0
    fit_on_two_ranks(two, *flags, *keep_steps(two / "steps", follow=one / "steps"))
    way = walked(one / "three_tasks")
    assert_same_steps(two / "steps", one / "steps", way, gradients=GRADIENTS * COARSER, share=1e-3)


def test_accumulated_batches_equal_whole_ones(one_process: Path, tmp_path: Path) -> None:
    flags = [*FLOAT64, "--trainer.accumulate_grad_batches", "4"]
    assert run_command(["fit", "--config", CONFIG, "--run.root", str(tmp_path), *flags], tmp_path / "log") == 0
    assert_same_end(tmp_path / "three_tasks", one_process)


def test_workers_change_nothing(reference: Path, tmp_path: Path) -> None:
    flags = ["--data.num_workers", "2"]
    assert run_command(["fit", "--config", CONFIG, "--run.root", str(tmp_path), *flags], tmp_path / "log") == 0
    assert_same_run(tmp_path / "three_tasks", reference)


def test_second_run_of_a_seed_is_the_same_and_another_seed_is_not(reference: Path, tmp_path: Path) -> None:
    command = ["fit", "--config", CONFIG, "--run.root", str(tmp_path)]
    assert run_command([*command, "--run.name", "same"], tmp_path / "log") == 0
    same, expected = read_results(tmp_path / "same"), read_results(reference)
    assert {**same, "cost": None} == {**expected, "cost": None}
    assert run_command([*command, "--run.name", "other", "--seed_everything", "4"], tmp_path / "log") == 0
    other = read_results(tmp_path / "other")
    assert other["zero_shot"] == expected["zero_shot"]
    assert other["protocol"] == expected["protocol"]
    assert other["R"] != expected["R"]
