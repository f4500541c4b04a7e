"""A run killed at any moment and resumed leaves the same files as one that was left alone."""

import os
from pathlib import Path

import pytest

from tests.e2e.conftest import Fit, kill_at, read_results
from tests.e2e.same_files import assert_same_files

MOMENTS = {
    "start of the first task": ("on_task_start", 0),
    "mid-task": ("step", 11),
    "last step of a task, its checkpoint written": ("on_task_end", 0),
    "last step of a longer task": ("on_task_end", 1),
    "last step of the last task": ("on_task_end", 2),
    "zero-shot evaluation": ("evaluate", 1),
    "boundary evaluation": ("evaluate", 3 + 3 + 1),
    "after the last row, before its checkpoint": ("on_task_report", 2),
    "after the row, before its checkpoint": ("on_task_report", 1),
    "start of a task": ("on_task_start", 1),
    "writing a checkpoint within a task, in a thread": ("checkpoint", 5),
    "writing a checkpoint at a boundary": ("checkpoint", 7),
    "between its second file and a checkpoint": ("constants", 1),
    "after a checkpoint of a logged step": ("saved", 2),
    "while a thread writes a checkpoint": ("saved", 5),
    "after a row of metrics": ("logged", 4),
}
CADENCES = {
    # rows of metrics and checkpoints: at every step, at others, and rows that the boundary logs as well
    "L2": ["--trainer.log_every_n_steps", "1", "--run.checkpoint_every", "2"],
    "L2 with accumulated batches": [
        *("--trainer.log_every_n_steps", "3", "--run.checkpoint_every", "1"),
        *("--trainer.accumulate_grad_batches", "2"),
    ],
    "GIFT with the Fisher information of the boundary": [
        *("--config", str(Path(__file__).with_name("gift.yaml")), "--data.replay.images_per_task", "8"),
        *("--model.consolidation", "boundary", "--trainer.log_every_n_steps", "1"),
    ],
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_run_resumes_bit_identical(moment: str, fit: Fit, tmp_path: Path, reference: Path) -> None:
    assert fit(*kill_at(*MOMENTS[moment])) == -9, (tmp_path / "log.txt").read_text()
    assert fit("--ckpt_path", "last") == 0, (tmp_path / "log.txt").read_text()
    assert_same_files(tmp_path / "three_tasks", reference)


def test_killed_twice_in_the_same_task(fit: Fit, tmp_path: Path, reference: Path) -> None:
    assert fit(*kill_at("on_task_end", 0)) == -9
    assert fit("--ckpt_path", "last", *kill_at("step", 10)) == -9
    assert fit("--ckpt_path", "last", *kill_at("step", 14)) == -9
    assert fit("--ckpt_path", "last") == 0, (tmp_path / "log.txt").read_text()
    assert_same_files(tmp_path / "three_tasks", reference)


def test_temporary_folder_on_another_file_system(fit: Fit, tmp_path: Path, reference: Path) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system at /dev/shm")
    assert fit(*kill_at("checkpoint", 7), TMPDIR=str(elsewhere)) == -9
    assert fit("--ckpt_path", "last", TMPDIR=str(elsewhere)) == 0, (tmp_path / "log.txt").read_text()
    assert_same_files(tmp_path / "three_tasks", reference)


def test_killed_amid_accumulated_batches(fit: Fit, tmp_path: Path) -> None:
    flags = ["--trainer.accumulate_grad_batches", "4"]
    assert fit(*flags, "--run.root", str(tmp_path / "whole")) == 0
    assert fit(*flags, *kill_at("step", 4)) == -9
    assert fit(*flags, "--ckpt_path", "last", *kill_at("step", 5)) == -9
    assert fit(*flags, "--ckpt_path", "last") == 0, (tmp_path / "log.txt").read_text()
    assert_same_files(tmp_path / "three_tasks", tmp_path / "whole" / "three_tasks")


def test_stopped_within_a_task(fit: Fit, tmp_path: Path, reference: Path) -> None:
    stop = ["--trainer.callbacks+=tests.e2e.kill.StopAt", "--trainer.callbacks.step=11"]
    assert fit(*stop) == 2
    assert "stopped at step 11, after 1 of 3 tasks: go on with --ckpt_path last" in (tmp_path / "log.txt").read_text()
    assert len(read_results(tmp_path / "three_tasks")["R"]) == 1
    assert fit("--ckpt_path", "last") == 0, (tmp_path / "log.txt").read_text()
    assert_same_files(tmp_path / "three_tasks", reference)


def test_full_disk_is_told_in_one_sentence_and_loses_nothing(fit: Fit, tmp_path: Path, reference: Path) -> None:
    assert fit(*kill_at("step", 11)) == -9
    before = (tmp_path / "three_tasks" / "checkpoints" / "last.ckpt").read_bytes()  # a thread writes the next one
    assert fit("--ckpt_path", "last", largest_file=len(before) // 2) == 2
    assert "last.ckpt cannot be written" in (tmp_path / "log.txt").read_text()
    assert (tmp_path / "three_tasks" / "checkpoints" / "last.ckpt").read_bytes() == before
    assert fit("--ckpt_path", "last") == 0, (tmp_path / "log.txt").read_text()
    assert_same_files(tmp_path / "three_tasks", reference)


def test_a_run_goes_on_from_two_files_and_not_from_one(fit: Fit, tmp_path: Path, reference: Path) -> None:
    assert fit(*kill_at("step", 14)) == -9
    folder = tmp_path / "three_tasks" / "checkpoints"
    [second] = folder.glob("last_constants_*.pt")
    second.rename(tmp_path / second.name)
    assert fit("--ckpt_path", "last") == 2
    assert f"last.ckpt lacks a part of its weights: {second.name} is missing" in (tmp_path / "log.txt").read_text()
    (tmp_path / second.name).rename(second)
    assert fit("--ckpt_path", "last", *kill_at("constants", 0)) == -9
    assert fit("--ckpt_path", "last") == 0, (tmp_path / "log.txt").read_text()
    assert_same_files(tmp_path / "three_tasks", reference)
    assert not [*folder.glob("last_constants_*")]


def test_resuming_a_finished_run_changes_nothing(fit: Fit, tmp_path: Path) -> None:
    assert fit() == 0
    folder = tmp_path / "three_tasks"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert fit("--ckpt_path", "last") == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("cadence", CADENCES)
def test_metrics_of_a_run_killed_again_and_again(cadence: str, fit: Fit, tmp_path: Path) -> None:
    flags = [*CADENCES[cadence], "--data.steps", "3", "--run.name", "run"]
    assert fit(*flags, "--run.root", str(tmp_path / "whole")) == 0, (tmp_path / "log.txt").read_text()
    resume = [*flags, "--ckpt_path", "last"]
    for moment in (("on_task_start", 1), ("logged", 2), ("saved", 0)):
        assert fit(*resume, *kill_at(*moment)) == -9, (tmp_path / "log.txt").read_text()
    assert fit(*resume) == 0, (tmp_path / "log.txt").read_text()
    assert_same_files(tmp_path / "run", tmp_path / "whole" / "run")


def test_last_checkpoint_holds_all_rows(reference: Path) -> None:
    import torch

    checkpoint = torch.load(reference / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["callbacks"]["AccuracyMatrix"]["rows"].tolist() == read_results(reference)["R"]
    assert not [name for name in os.listdir(reference / "checkpoints") if "tmp" in name]
