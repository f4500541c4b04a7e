"""The page that a run writes while it goes on."""

import re
from pathlib import Path

import pytest

from callbacks import RunRecord, RunTime
from callbacks.task_callback import TaskCallback
from datamodules import TaskSequence
from datamodules.mini import Flags, Shapes
from gift_lightning.methods import Finetune
from gift_lightning.records.page import growing
from gift_lightning.records.page.growing import GrowingPage
from gift_lightning.records.run_folder import RunFolder
from tests.callbacks.test_task_boundary import MINI, trainer_with

CONFIG = "model: {class_path: Finetune, init_args: {clip: {name: x}}}\ndata: {steps: 1}\ntrainer: {}\n"


class Wait(TaskCallback):
    """Waits for the page of the first task, and keeps it."""

    page = ""

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    def on_task_start(self, trainer: object, method: object, task: int) -> None:
        page, folder = self.record._page, self.record.folder
        if task == 1 and page and page._process and folder:
            assert page._process.wait(60) == 0
            self.page = folder.page.read_text(encoding="utf-8")


def test_the_page_grows_with_a_run_that_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(str(tmp_path), "run")
    short = GrowingPage(folder)
    short.update(), short.finish()
    assert short._process is None

    monkeypatch.setattr(growing, "PAUSE", 0.0)
    record = RunRecord(folder, CONFIG)
    wait = Wait(record)
    sequence = TaskSequence([Flags(8, 9), Shapes(8, 10)], batch_size=8, steps=1)
    trainer_with(RunTime(), record, wait, folder=folder, max_epochs=2).fit(
        Finetune(clip=MINI, warmup_steps=0), sequence
    )
    final = folder.page.read_text(encoding="utf-8")
    assert ">after task 1 of 2<" in wait.page and ">1 run<" in final
    assert [len(re.findall(r'class=" framed"|class="high framed"', text)) for text in (wait.page, final)] == [1, 2]
    assert str(tmp_path) not in final


def test_a_process_ends_with_its_run(tmp_path: Path) -> None:
    page = GrowingPage(RunFolder(str(tmp_path), "run"))
    process = page._begin()
    page.stop(), page.stop()
    assert process.returncode == -9 and not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_is_told_and_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(growing, "PAUSE", 0.0)
    monkeypatch.setattr(growing.sys, "executable", str(tmp_path / "none"))
    page = GrowingPage(RunFolder(str(tmp_path), "run"))
    page.update(), page.finish()
    assert "report.html is not that of the finished run" in " ".join(capsys.readouterr().err.split())
