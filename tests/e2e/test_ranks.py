"""Two ranks compute what one process computes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gift_lightning.fusion import unpack_mask
from tests.e2e.conftest import (
    CONFIG,
    assert_same_run,
    final_weights,
    kill_at,
    read_results,
    run_command,
    run_on_ranks,
)

KEY_BIAS = "attn.in_proj_bias"
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


def settled(packed: Tensor, kept: dict[str, Tensor]) -> Tensor:
    """A mask without the entries that only rounding has moved, those of key biases."""
    moved = torch.cat([tensor.flatten() for name, tensor in kept.items() if name.startswith("unified.")]).abs() > 1e-6
    return unpack_mask(packed, 0, len(moved))[moved]


def largest_difference(ours: Path, theirs: Path) -> float:
    """Largest difference between two runs' final weights, without what hangs on the key bias, which is rounding noise:
    itself, and of a fusion the bits and sums over it.
    """
    mine, other = final_weights(ours), final_weights(theirs)
    noisy = any(name.endswith(KEY_BIAS) for name in mine)
    differences = []
    for name, weight in mine.items():
        if noisy and name.startswith("mask."):
            assert torch.equal(settled(weight, mine), settled(other[name], mine)), name
            continue
        if noisy and name == "rescalers":
            continue
        difference = (weight.double() - other[name].double()).abs().flatten()
        if name.endswith(KEY_BIAS):
            third = len(difference) // 3
            difference = torch.cat([difference[:third], difference[2 * third :]])
        differences.append(difference.max().item())
    return max(differences)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_ranks_equal_one_process(launcher: str, one_process: Path, tmp_path: Path) -> None:
    command = [*LAUNCHERS[launcher], "fit", "--config", CONFIG, "--run.root", str(tmp_path), *TWO_RANKS, *FLOAT64]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "three_tasks"
    ours, theirs = read_results(folder), read_results(one_process)
    assert ours["R"] == theirs["R"]
    assert ours["zero_shot"] == theirs["zero_shot"]
    assert largest_difference(folder, one_process) < 1e-9


def test_killed_on_one_rank_resumed_on_two(one_process: Path, tmp_path: Path) -> None:
    command = ["fit", "--config", CONFIG, "--run.root", str(tmp_path), *FLOAT64, *kill_at("step", 11)]
    assert run_command(command, tmp_path / "log") == -9
    folder = fit_on_two_ranks(tmp_path, *FLOAT64, "--ckpt_path", "last")
    assert read_results(folder)["R"] == read_results(one_process)["R"]
    assert largest_difference(folder, one_process) < 1e-9


def test_float32_stays_close(small_vit: str, tmp_path: Path) -> None:
    flags = ["--model.clip.name", small_vit, "--model.lr", "3e-4", "--data.steps", "10"]
    flags += ["--trainer.callbacks+=tests.e2e.gradients.SaveFirstGradients"]
    (tmp_path / "two").mkdir()
    two = fit_on_two_ranks(tmp_path / "two", *flags, f"--trainer.callbacks.path={tmp_path}/two.pt")
    command = ["fit", "--config", CONFIG, "--run.root", str(tmp_path / "one"), *flags]
    assert run_command([*command, f"--trainer.callbacks.path={tmp_path}/one.pt"], tmp_path / "log") == 0
    ours, theirs = (torch.load(tmp_path / name)["gradients"] for name in ("two.pt", "one.pt"))
    for name, gradient in theirs.items():
        if not name.endswith(KEY_BIAS):
            assert (ours[name] - gradient).abs().max() <= 1e-5 * gradient.abs().max(), name
    difference = largest_difference(two, tmp_path / "one" / "three_tasks")
    assert difference < 1e-4


def test_accumulated_batches_equal_whole_ones(one_process: Path, tmp_path: Path) -> None:
    flags = [*FLOAT64, "--trainer.accumulate_grad_batches", "4"]
    assert run_command(["fit", "--config", CONFIG, "--run.root", str(tmp_path), *flags], tmp_path / "log") == 0
    assert read_results(tmp_path / "three_tasks")["R"] == read_results(one_process)["R"]
    assert largest_difference(tmp_path / "three_tasks", one_process) < 1e-9


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
