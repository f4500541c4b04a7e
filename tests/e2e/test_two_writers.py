"""Two processes never write into one run folder; the second one says who does."""

import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import gift_lightning
from callbacks.task_callback import TaskCallback
from datamodules import TaskSequence
from datamodules.mini import Flags, Shapes
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import Finetune
from gift_lightning.records import run_lock
from gift_lightning.records.run_lock import RunLock
from tests.e2e.conftest import CONFIG, call, fit_here, read_results, run_on_ranks
from tests.e2e.two_writers import REFUSAL, attempt


def test_of_two_processes_after_a_killed_one_one_works(reference: Path, tmp_path: Path) -> None:
    assert attempt(tmp_path, reference, 1)["reads"] > 10


def test_two_ranks_hear_of_a_refusal(tmp_path: Path) -> None:
    began, log = time.monotonic(), tmp_path / "log.txt"
    with RunLock(tmp_path / "three_tasks").held():
        assert run_on_ranks(2, ["fit", "--config", CONFIG, "--run.root", str(tmp_path)], log) == 2
    assert time.monotonic() - began < 60
    assert re.fullmatch(rf"{REFUSAL}.* or choose another --run.name\.\n", log.read_text()), log.read_text()
    assert not (tmp_path / "three_tasks").exists()


def test_a_complete_run_is_read_while_another_process_has_its_folder(reference: Path, tmp_path: Path) -> None:
    run = shutil.copytree(reference, tmp_path / "three_tasks")
    with RunLock(run).held():
        status, out, err = fit_here(tmp_path)
        assert status == 0 and "This run is complete" in out, err
        assert call("report", str(run))[0] == 0
        assert gift_lightning.load(run)


def test_fit_of_python_is_refused_in_its_own_words(tmp_path: Path) -> None:
    method = Finetune(clip=CLIPSource("package:datamodules.mini.clip"), lr=1e-3)
    sequence = TaskSequence([Flags(16, 4), Shapes(16, 4)], 8, 1)
    refusal = "run is in use by process .* stop it, or choose another run"
    with RunLock(tmp_path / "run").held(), pytest.raises(InputError, match=refusal):
        gift_lightning.fit(method, sequence, tmp_path / "run", accelerator="cpu")


class LockRemover(TaskCallback):
    """Removes the lock of a run when its second task begins, as a user may do."""

    INDIFFERENT = frozenset({"*"})

    def on_task_start(self, trainer: Any, method: Any, task: int) -> None:
        if task == 1:
            (Path(trainer.default_root_dir) / ".lock").unlink()
            time.sleep(0.5)


def test_a_run_that_has_lost_its_lock_writes_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.02)
    status, _, err = fit_here(tmp_path, "--trainer.callbacks+=tests.e2e.test_two_writers.LockRemover")
    assert status == 2 and len(err.strip().splitlines()) == 1, err
    assert "three_tasks/.lock was removed or taken over" in err and "go on with --ckpt_path last." in err
    assert len(read_results(tmp_path / "three_tasks")["R"]) == 1
    assert not list((tmp_path / "three_tasks").glob(".lock*"))
