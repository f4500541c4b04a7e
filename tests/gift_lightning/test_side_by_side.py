"""The command ``report``: finished runs on the same tasks, side by side."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gift_lightning.__main__ import main
from gift_lightning.errors import InputError
from gift_lightning.report import side_by_side


def run(method: str, last: float, **more: Any) -> dict[str, Any]:
    tasks = ["Counting", "Textures"]
    rows = [[80.0, 50.0], [60.0, last]]
    common = {"seed": 0, "tasks": tasks, "zero_shot": [40.0, 55.0], "protocol": {"id": "one"}, "complete": True}
    return {"method": method, "R": rows, **common, **more}


def rendered(*runs: dict[str, Any], width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(side_by_side(runs))
    return console.export_text()


def test_one_row_for_each_run_and_the_best_stand_out() -> None:
    text = rendered(run("Finetune", 70.0), run("GIFT", 75.0))
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert ["zero-shot", "40.0", "55.0", "55.0", "47.5", "47.5"] in lines
    assert ["Finetune", "60.0", "70.0", "50.0", "65.0", "65.0"] in lines
    assert ["GIFT", "60.0", "75.0", "50.0", "66.2", "67.5"] in lines
    assert max(len(line) for line in text.splitlines()) <= 80


def test_runs_of_one_method_are_told_apart_by_their_seeds() -> None:
    text = rendered(run("GIFT", 70.0), run("GIFT", 75.0, seed=1))
    assert "GIFT, seed 0" in text and "GIFT, seed 1" in text


def test_many_tasks_leave_the_metrics_alone() -> None:
    tasks = [f"Dataset{number:02d}" for number in range(11)]
    rows = [[50.0] * 11 for _ in tasks]
    text = rendered(run("GIFT", 70.0, tasks=tasks, R=rows, zero_shot=[40.0] * 11))
    assert "Transfer" in text and "Dataset" not in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_runs_of_other_benchmarks_are_not_compared() -> None:
    with pytest.raises(InputError, match="compare runs of the same benchmark"):
        rendered(run("GIFT", 70.0), run("Finetune", 70.0, protocol={"id": "other"}))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "holds no run"),
        ("{}", "is not what a run writes"),
        ("[]", "is not what a run writes"),
        (json.dumps(run("GIFT", 70.0, complete=False)), "has finished 2 of 2 tasks: go on with --ckpt_path last"),
    ],
)
def test_bad_folders(content: str | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    assert main(["report", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, last in (("a", 70.0), ("b", 75.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(run(name.upper(), last)))
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "After the last task" in capsys.readouterr().out
