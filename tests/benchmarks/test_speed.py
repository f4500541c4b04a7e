"""The benchmarks of speed on small models: that they run, and that both ways compute the same."""

import subprocess
from pathlib import Path

import pytest
from rich.table import Table

from benchmarks import input as images_to_model
from benchmarks import speed
from benchmarks.step import STEPS_EQUAL, check_losses, flops, stepper
from benchmarks.workload import METHODS, Case
from gift_lightning.files import read_json

SMALL = "ViT-S-32-alt"


@pytest.mark.parametrize("method", METHODS)
def test_the_textbooks_step_has_the_losses_of_ours(method: str) -> None:
    case = Case(method, batch=3, classes=4, texts=5, model=SMALL)
    losses: dict[str, list[float]] = {"ours": [], "textbook": []}
    for way, values in losses.items():
        step, loss = stepper(case, way)
        for _ in range(STEPS_EQUAL):
            step()
            values.append(loss())
    check_losses(case, losses["ours"], losses["textbook"])
    losses["textbook"][0] += 0.1
    with pytest.raises(SystemExit, match="should be equal"):
        check_losses(case, losses["ours"], losses["textbook"])


def test_flops_of_a_step_are_counted_without_computing() -> None:
    case = Case("gift", batch=8, classes=40, texts=20, model=SMALL)
    ours, theirs = flops(case, "ours"), flops(case, "textbook")
    assert 1.2 < theirs / ours < 4
    assert ours == flops(case, "ours")


def test_a_part_is_kept_beside_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "FOLDER", tmp_path)
    monkeypatch.setattr(speed, "machine", lambda device, ranks: f"a {device.type}")  # there may be no GPU
    table = Table("ms", "ours", title="unused")
    table.add_row("[bold]gift[/bold]", "1.5")
    speed.record("cpu", "step", [table])
    speed.record("cuda", "fit", [table, table])
    assert read_json(tmp_path / "speed.json")["cpu"]["step"]["tables"] == [
        {"heads": ["ms", "ours"], "rows": [["gift", "1.5"]]}
    ]
    page = (tmp_path / "RESULTS.md").read_text()
    assert page.count("| gift | 1.5 |") == 3 and page.index("## GPU: `fit`") < page.index("## CPU: A training step")


@pytest.mark.parametrize("arguments", [[], ["nothing"]])
def test_the_script_for_a_gpu_names_its_parts(arguments: list[str]) -> None:
    done = subprocess.run(["bash", "benchmarks/gpu.sh", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode and "speed or rehearsal" in done.stdout + done.stderr


def test_images_come_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_to_model, "IMAGES", 64)
    monkeypatch.setattr(images_to_model, "BATCH", 4)
    monkeypatch.setattr(images_to_model.os, "cpu_count", lambda: 1)
    of_draw, both = images_to_model.tables(rounds=1)
    assert of_draw.row_count == 3 and both.row_count == 4
