"""A ``results.json`` of any version has the fields of today when it is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from gift_lightning.__main__ import main
from gift_lightning.records.published import matrix
from gift_lightning.records.run_folder import RunFolder


def read(folder: Path, **fields: Any) -> dict[str, Any]:
    published = matrix("I", "zscl")
    common = {"method": "ZSCL", "tasks": published.tasks, "R": published.R, "complete": True, "protocol": {"id": "x"}}
    (folder / "results.json").write_text(json.dumps(common | fields))
    results = RunFolder.at(folder).read_results()
    assert results is not None
    return results


@pytest.mark.parametrize(
    ("fields", "learns"),
    [
        ({}, True),
        ({"cost": {}}, True),
        ({"cost": {"trainable_parameters": 7}}, True),
        ({"cost": {"trainable_parameters": 0}}, False),
        ({"cost": {"trainable_parameters": 0}, "learns": True}, True),  # all is frozen
        ({"cost": {"trainable_parameters": 7}, "learns": False}, False),
    ],
)
def test_whether_the_method_learns(fields: dict[str, Any], learns: bool, tmp_path: Path) -> None:
    assert read(tmp_path, **fields)["learns"] is learns


@pytest.mark.parametrize(
    ("protocol", "shots"),
    [
        ({}, {}),
        ({"fingerprints": {"Food": "5f"}}, {}),
        ({"fingerprints": {"Food": "5f, 16 shots", "MNIST": "3e"}}, {"Food": 16}),
        ({"fingerprints": {"Food": "photos of shots"}}, {}),
        ({"fingerprints": {"Food": "5f, 16 shots"}, "shots": {"Food": 16}}, {"Food": 16}),
    ],
)
def test_the_shots_of_tasks(protocol: dict[str, Any], shots: dict[str, int], tmp_path: Path) -> None:
    assert read(tmp_path, protocol={"id": "x", **protocol})["protocol"] == {"id": "x", **protocol, "shots": shots}


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        ({"fingerprints": {"Food": "5f, 16 shots"}}, "16 shots"),
        ({"fingerprints": {"Food": "5f, 16 shots"}, "shots": {"Food": 16}}, "16 shots"),
        ({"label_space": "all", "shots": {"Food": 16}}, "data.label_space all"),
    ],
)
def test_few_shots_do_not_stand_beside_what_is_published(
    protocol: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read(tmp_path, protocol={"id": "x", **protocol})
    assert main(["report", str(tmp_path), "--published", "mtil_order_1"]) == 2
    assert f"The runs have {told}, the published results do not: show them without" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"learns": "yes"}, "learns is not true or false"),
        ({"protocol": {"id": "x", "shots": {"Food": "16"}}}, "protocol.shots['Food'] is not a whole number"),
    ],
)
def test_fields_of_other_types_are_told(
    fields: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps(results | fields))
    assert main(["report", str(tmp_path)]) == 2
    assert told in capsys.readouterr().err
