"""Checkpoints within a task, by the clock and by steps."""

from pathlib import Path
from typing import Any

import pytest

from callbacks.task_callback import TaskCallback
from tests.e2e.conftest import CONFIG, assert_same_run, fit_here, run_on_ranks


class Saves(TaskCallback):
    """Notes the global step of each checkpoint, one file for each rank.

    Args:
        folder: of the files.
    """

    INDIFFERENT = frozenset({"*"})

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        with open(Path(self.folder) / f"saves{trainer.global_rank}", "a") as file:
            file.write(f"{trainer.global_step} ")


def noted(folder: Path) -> list[str]:
    return [
        "--trainer.callbacks+=tests.e2e.test_step_checkpoint.Saves",
        f"--trainer.callbacks.folder={folder}",
    ]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--run.checkpoint_every", "null"], "0 6 16 24 "),
        (["--run.checkpoint_every", "4"], "0 4 6 8 12 16 16 20 24 24 "),
        (
            ["--run.checkpoint_every", "null", "--run.checkpoint_minutes", "1e-9"],
            "0 1 2 3 4 5 6 6 7 8 9 10 11 12 13 14 15 16 16 17 18 19 20 21 22 23 24 24 ",
        ),
    ],
)
def test_when_a_checkpoint_is_written(flags: list[str], expected: str, tmp_path: Path, reference: Path) -> None:
    status, _, err = fit_here(tmp_path, *flags, *noted(tmp_path))
    assert status == 0, err
    assert (tmp_path / "saves0").read_text() == expected
    assert_same_run(tmp_path / "three_tasks", reference)


def test_ranks_agree_when_minutes_have_passed(tmp_path: Path) -> None:
    flags = ["--data.steps", "17", "--run.checkpoint_every", "null", "--run.checkpoint_minutes", "1e-9"]
    argv = ["fit", "--config", CONFIG, "--run.root", str(tmp_path), *flags, *noted(tmp_path)]
    assert run_on_ranks(2, argv, tmp_path / "log.txt") == 0, (tmp_path / "log.txt").read_text()
    for rank in range(2):
        assert (tmp_path / f"saves{rank}").read_text() == "0 17 34 50 51 "


@pytest.mark.parametrize("minutes", ["0", "-1", ".nan"])
def test_minutes_that_are_none_are_told(minutes: str, tmp_path: Path) -> None:
    status, _, err = fit_here(tmp_path, f"--run.checkpoint_minutes={minutes}")
    assert status == 2
    assert "run.checkpoint_minutes is " in err and ": give more than 0 minutes." in err
