from pathlib import Path
from typing import Any

import pytest
import yaml

from gift_lightning.records.page.ablation import ablation_section
from gift_lightning.records.page.section import Cells, Chart, ReportedRun


def a_run(root: Path, images: Any, seed: int = 0, last: float = 80.0, **others: Any) -> ReportedRun:
    folder = root / f"run{len(list(root.iterdir()))}"
    folder.mkdir()
    replay = {"folder": f"runs/replay/{seed}_{images}", "images_per_task": images, "batch_size": 8}
    model = {"class_path": others.get("method", "GIFT"), "init_args": {"clip": {"name": "a"}, "eval_batch_size": seed}}
    data = {"steps": others.get("steps", 10), "replay": {"class_path": "SyntheticReplay", "init_args": replay}}
    config = {"seed_everything": seed, "run": {"name": folder.name}, "model": model, "data": data, "trainer": {}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    R = [[90.0, others.get("transfer", 60.0)], [70.0, 2 * last - 70.0]]
    protocol = {"id": "x", "fingerprints": {"A": others.get("data", "1")}}
    results = {"method": "GIFT", "tasks": ["A", "B"], "R": R, "protocol": protocol, "seed": seed, "complete": True}
    return ReportedRun(folder.name, folder, results | {"complete": others.get("complete", True)})


def test_the_lines_have_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    runs = [a_run(tmp_path, 1800, last=85), a_run(tmp_path, 200, 0, 76), a_run(tmp_path, 200, 1, 80)]
    section = ablation_section(runs)
    assert section is not None and section.title == "Ablation of images_per_task"
    assert "data.replay.images_per_task" in section.note
    chart, table = section.parts
    assert isinstance(chart, Chart) and isinstance(table, Cells)
    assert table.rows[0][0] == "200" and table.rows[0][3:] == ["78.0 ± 2.8", "2"]
    assert table.rows[1] == ["1800", "60.0", "80.0", "85.0", "1"]
    [values] = chart.chart.to_dict()["datasets"].values()
    points = [p for p in values if p["metric"] == "Last"]
    assert [(p["setting"], p["mean"]) for p in points] == [(200, 78.0), (1800, 85.0)]
    assert points[1]["low"] == points[1]["high"]


def test_a_metric_that_the_runs_do_not_have_has_no_line(tmp_path: Path) -> None:
    section = ablation_section([a_run(tmp_path, n, transfer=None) for n in (200, 600)])
    assert section is not None and isinstance(section.parts[1], Cells)
    assert [row[1] for row in section.parts[1].rows] == ["–", "–"]


@pytest.mark.parametrize(
    "other",
    [
        {"images": 200, "seed": 1},  # the seed alone
        {"images": 600, "steps": 20},  # two settings
        {"images": 200, "method": "L2"},  # no number
        {"images": None},
        {"images": True},
        {"images": 600, "data": "2"},  # other images
        {"images": 600, "complete": False},
    ],
)
def test_no_curve_without_one_numeric_setting(tmp_path: Path, other: dict[str, Any]) -> None:
    assert ablation_section([a_run(tmp_path, 200), a_run(tmp_path, **other)]) is None
    assert ablation_section([]) is None
