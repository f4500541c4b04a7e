import json
from pathlib import Path

import pytest
from PIL import Image

from gift_lightning.records.page.looks import specification
from gift_lightning.records.page.overfitting import overfitting
from gift_lightning.records.page.section import Cells, Chart, ReportedRun
from tests.e2e.conftest import call

HEAD = "step,cl/task,distillation/held_out,distillation/replayed,loss/task\n"
ROWS = "0,0,,,\n1,,0.2,0.1,3.0\n3,,0.5,0.2,2.0\n4,1,,,\n5,,nan,0.1,3.0\n7,,0.7,0.4,2.0\n8,2,,,\n"


def a_run(root: Path, label: str, metrics: str = HEAD + ROWS) -> ReportedRun:
    folder = root / label.replace("/", "_")
    folder.mkdir()
    (folder / "metrics.csv").write_text(metrics)
    results = {"method": "GIFT", "tasks": ["A", "B"], "R": [[90.0, 60.0], [70.0, 80.0]], "complete": True}
    results["protocol"] = {"id": "x"}
    (folder / "results.json").write_text(json.dumps(results))
    return ReportedRun(label, folder, results)


def test_both_losses_of_each_task(tmp_path: Path) -> None:
    hostile = "<script>|=cmd()"
    section = overfitting([a_run(tmp_path, hostile), a_run(tmp_path, "without", "step,loss/task\n1,2.0\n")])
    assert section is not None
    chart, table = section.parts
    assert isinstance(chart, Chart) and isinstance(table, Cells)
    assert table.rows == [[hostile, "0.300", "0.600", "+0.300", "2.00"]]
    assert [key.label for key in chart.legend] == [hostile, "replayed pairs", "held-out pairs"]
    points = specification(chart.chart)["layer"][-1]["data"]["values"]
    held_out = [(p["task"], p["step"], p["loss"]) for p in points if p["kind"] == "held-out pairs"]
    assert held_out == [("A", 2, 0.2), ("A", 4, 0.5), ("B", 8, 0.7)]  # no nan, which is no JSON


@pytest.mark.parametrize(
    ("rows", "cells"),
    [
        ("1,,0.2,0.1,\n3,,inf,0.2,\n4,1,,,\n", ["0.200", "–", "–", "–"]),  # not the 0.2 before
        ("1,,inf,inf,\n3,,nan,inf,\n4,1,,,\n", ["–"] * 4),
        ("1,,0.2,0.1,\n3,,0.5,0.2,\n", ["–"] * 4),  # no task is finished
        ("3,,0.5,0.2,\n4,1,,,\n5,,0.7,0.6,\n", ["0.200", "0.500", "+0.300", "2.50"]),
        ("3,,0.5,0.2,\n4,1,,,\n7,,0.7,1e-", ["0.200", "0.500", "+0.300", "2.50"]),
    ],
)
def test_a_mean_is_of_finite_losses_after_the_last_steps(tmp_path: Path, rows: str, cells: list[str]) -> None:
    section = overfitting([a_run(tmp_path, "a", HEAD + rows)])
    assert section is not None and isinstance(section.parts[-1], Cells)
    assert section.parts[-1].rows == [["a", *cells]]


def test_without_the_metrics_there_is_nothing(tmp_path: Path) -> None:
    assert overfitting([a_run(tmp_path, "a", "step,loss/task\n1,2.0\n")]) is None
    assert overfitting([]) is None


def test_the_command_writes_pictures(tmp_path: Path) -> None:
    run = a_run(tmp_path, "a")
    status, out, _ = call("report", str(run.folder), "--format", "png", "--out", str(tmp_path / "pictures"))
    file = tmp_path / "pictures" / "overfitting.png"
    assert status == 0 and str(file) in out
    with Image.open(file) as picture:
        assert picture.width > 1200
