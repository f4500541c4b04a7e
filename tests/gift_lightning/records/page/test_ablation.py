from pathlib import Path
from typing import Any

import pytest

from gift_lightning.records.page.ablation import ablations
from gift_lightning.records.page.looks import specification
from gift_lightning.records.page.section import Cells, Chart, Grid, ReportedRun, Section
from gift_lightning.runs.same_run import method_settings


def a_run(root: Path, images: Any, seed: int = 0, last: float = 80.0, **others: Any) -> ReportedRun:
    folder = root / f"run{len(list(root.iterdir()))}"
    folder.mkdir()
    replay = {"folder": f"runs/replay/{seed}_{images}", "images_per_task": images, "batch_size": 8}
    replay["generator"] = {"class_path": "datamodules.mini.OracleGenerator", "init_args": {"batch_size": 4 + seed}}
    lr = {"A": 1e-3, others.get("task", "B"): others.get("lr", 1e-3)}
    arguments = {"clip": {"name": "a"}, "eval_batch_size": seed, "lr": lr}
    model = {"class_path": "gift_lightning.methods." + others.get("method", "GIFT"), "init_args": arguments}
    data = {"steps": others.get("steps", 10), "tasks": others.get("tasks", [])}
    data["replay"] = {"class_path": "datamodules.SyntheticReplay", "init_args": replay}
    trainer = {"devices": seed, **others.get("trainer", {})}
    config = {"seed_everything": seed, "model": model, "data": data, "trainer": trainer}
    R = [[90.0, others.get("transfer", 60.0)], [70.0, 2 * last - 70.0]]
    protocol = {"id": "x", "fingerprints": {"A": others.get("data", "1")}}
    results = {"method": others.get("method", "GIFT"), "tasks": ["A", "B"], "R": R, "protocol": protocol, "seed": seed}
    results |= {"complete": others.get("complete", True)}
    return ReportedRun(folder.name, folder, results, method_settings(config))


def parts(section: Section | None) -> tuple[dict[str, list[dict[str, Any]]], Cells]:
    """The points of each chart of the only setting, by metric, and the table."""
    assert section is not None
    grid, table = section.parts
    assert isinstance(grid, Grid) and isinstance(table, Cells)
    charts = [chart for chart in grid.parts if isinstance(chart, Chart)]
    assert {key.label for key in grid.legend} == {row[0] for row in table.rows}
    return {chart.title: specification(chart.chart)["data"]["values"] for chart in charts}, table


def test_the_lines_have_mean_and_spread_over_seeds(tmp_path: Path) -> None:
    runs = [a_run(tmp_path, 1800, last=85), a_run(tmp_path, 200, 0, 76), a_run(tmp_path, 200, 1, 80)]
    points, table = parts(ablations(runs))
    assert table.heads[1] == "data.replay.images_per_task"
    assert table.rows[0] == ["GIFT", "200", "60.0 ± 0.0", "76.5 ± 1.4", "78.0 ± 2.8", "2 (seeds 0, 1)"]
    assert table.rows[1] == ["GIFT", "1800", "60.0", "80.0", "85.0", "1 (seed 0)"]
    last = points["Last"]
    assert [(point["setting"], point["mean"]) for point in last] == [(200, 78.0), (1800, 85.0)]
    assert last[1]["low"] == last[1]["high"]


def test_two_methods_have_a_line_each_and_a_run_without_a_partner_none(tmp_path: Path) -> None:
    swept = [a_run(tmp_path, n, method=method) for method in ("GIFT", "GIFTAblation") for n in (200, 600)]
    _, table = parts(ablations([*swept, a_run(tmp_path, 200, method="ZSCL")]))
    assert [row[:2] for row in table.rows] == [[m, n] for m in ("GIFT", "GIFTAblation") for n in ("200", "600")]


def test_a_grid_has_a_chart_for_each_setting_and_a_line_for_each_value_of_the_other(tmp_path: Path) -> None:
    section = ablations([a_run(tmp_path, images, steps=steps) for images in (200, 600) for steps in (10, 20)])
    assert section is not None
    tables = [part for part in section.parts if isinstance(part, Cells)]
    assert [table.heads[1] for table in tables] == ["data.replay.images_per_task", "data.steps"]
    assert {row[0] for row in tables[0].rows} == {"GIFT, steps 10", "GIFT, steps 20"}


def test_a_metric_that_the_runs_do_not_have_has_no_line(tmp_path: Path) -> None:
    points, table = parts(ablations([a_run(tmp_path, n, transfer=None) for n in (200, 600)]))
    assert [row[2] for row in table.rows] == ["–", "–"]
    assert [*points] == ["Avg", "Last"]


def test_a_hostile_name_is_text(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>|=cmd()"
    points, table = parts(ablations([a_run(tmp_path, 200, task=name, method=name, lr=lr) for lr in (1e-3, 2e-3)]))
    assert table.heads[1] == f"model.lr.{name}" and table.rows[0][0] == name  # the page escapes cells
    assert points["Last"][0]["line"] == name  # and Vega draws data as text


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
        {"images": 600, "trainer": {"gradient_clip_val": 1.0}},
        {"images": 600, "trainer": {"precision": "16-mixed"}},
    ],
)
def test_no_curve_without_one_numeric_setting(tmp_path: Path, other: dict[str, Any]) -> None:
    assert ablations([a_run(tmp_path, 200), a_run(tmp_path, **other)]) is None
    assert ablations([]) is None


@pytest.mark.parametrize("others", [{"gradient_clip_val": 1.0}, {"precision": "16-mixed"}, {"max_epochs": 3}])
def test_runs_of_other_settings_of_the_trainer_are_no_seeds(tmp_path: Path, others: dict[str, Any]) -> None:
    swept = [a_run(tmp_path, 200, last=76), a_run(tmp_path, 600)]
    section = ablations([*swept, a_run(tmp_path, 200, 1, 90, trainer=others)])
    assert section is not None and isinstance(table := section.parts[1], Cells)
    assert [row[4] for row in table.rows] == ["76.0", "80.0"]


def test_a_copy_is_no_further_seed(tmp_path: Path) -> None:
    _, table = parts(ablations([a_run(tmp_path, images) for images in (200, 200, 600)]))
    assert [(row[1], row[5]) for row in table.rows] == [("200", "1 (seed 0)"), ("600", "1 (seed 0)")]


def test_many_lines_are_told_apart_by_colour_and_pattern(tmp_path: Path) -> None:
    section = ablations([a_run(tmp_path, images, method=f"M{m:02}") for images in (200, 600) for m in range(25)])
    assert section is not None and isinstance(grid := section.parts[0], Grid)
    assert len({(key.colour, key.pattern) for key in grid.legend}) == 25
    assert {key.pattern for key in grid.legend} == {0, 1, 2}


def test_long_settings_are_not_in_the_names_of_lines(tmp_path: Path) -> None:
    flags, shapes = ({"class_path": f"datamodules.mini.{name}", "init_args": {}} for name in ("Flags", "Shapes"))
    orders = [{"tasks": [flags, shapes]}, {"tasks": [shapes, flags]}]
    _, table = parts(ablations([a_run(tmp_path, images, **order) for order in orders for images in (200, 600)]))
    assert {row[0] for row in table.rows} == {"GIFT (run0)", "GIFT (run2)"}
    several = [{"trainer": dict.fromkeys("abcdefgh"[:count], 1)} for count in (2, 8)]
    _, table = parts(ablations([a_run(tmp_path, images, **each) for each in several for images in (200, 600)]))
    assert max(len(str(row[0])) for row in table.rows) < 60
