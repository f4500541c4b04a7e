"""A run folder that was damaged, and the sentence told for it by each command that reads it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import gift_lightning
from gift_lightning.errors import InputError
from gift_lightning.records.wandb_logger import _run_id
from tests.e2e.conftest import assert_same_run, call, fit_here

Damage = Callable[[Path], object]


def results(**changes: Any) -> Damage:
    """Other values in ``results.json``."""

    def damage(run: Path) -> None:
        content = json.loads((run / "results.json").read_text())
        (run / "results.json").write_text(json.dumps(content | changes))

    return damage


def config(*keys: str, value: Any) -> Damage:
    """Another value in ``config.yaml``."""

    def damage(run: Path) -> None:
        content = holder = yaml.safe_load((run / "config.yaml").read_text())
        for key in keys[:-1]:
            holder = holder[key]
        holder[keys[-1]] = value
        (run / "config.yaml").write_text(yaml.safe_dump(content))

    return damage


def content(name: str, data: bytes) -> Damage:
    return lambda run: (run / name).write_bytes(data)


def folder_in_place_of(name: str) -> Damage:
    return lambda run: ((run / name).unlink(), (run / name).mkdir())


def copy(source: str, target: str) -> Damage:
    return lambda run: shutil.copy(run / source, run / target)


ROWS = [[50.0, 50.0, 50.0]] * 3
WEIGHTS, CHECKPOINT = "checkpoints/task03.safetensors", "checkpoints/last.ckpt"

BAD_RESULTS: dict[str, tuple[Damage, str]] = {
    "R of texts": (results(R=[["a", "b", "c"]] * 3), "(R[0][0] is not a number)"),
    "R with a row that is short": (results(R=[*ROWS[:2], [1.0]]), "has not 3 values, one for each task"),
    "R with too few rows": (results(R=ROWS[:2]), "(R has 2 rows for 3 tasks)"),
    "R with too many rows": (results(R=[*ROWS, ROWS[0]]), "(R has 4 rows for 3 tasks)"),
    "R that is not a number": (results(R=[[float("nan")] * 3] * 3), "(R[0][0] is not a number)"),
    "R beyond percent": (results(R=[[50.0, 50.0, 500.0]] * 3), "(an accuracy is not between 0 and 100)"),
    "R of another run": (results(R=ROWS), "(its metrics are not those of R)"),
    "metrics in a list": (results(metrics=[1, 2]), "(metrics is not an object)"),
    "metrics of texts": (results(metrics={"avg": "high"}), "(metrics['avg'] is not a number)"),
    "metrics that lack one": (results(metrics={"avg": 50.0}), "(its metrics are not those of R)"),
    "a number of 400 digits": (results(R=[[10**400] * 3] * 3), "(R[0][0] is not a number)"),
    "tasks as a number": (results(tasks=3), "(tasks is not a list)"),
    "tasks of numbers": (results(tasks=[1, 2, 3]), "(tasks[0] is not a text)"),
    "tasks with equal names": (results(tasks=["a", "a", "b"]), "(it has no tasks, or tasks with equal names)"),
    "no tasks": (results(tasks=[], R=[]), "(it has no tasks, or tasks with equal names)"),
    "protocol that is null": (results(protocol=None), "(protocol is not an object)"),
    "protocol without id": (results(protocol={}), "(protocol has no id)"),
    "complete as a text": (results(complete="yes"), "(complete is not true or false)"),
    "zero-shot row that is short": (results(zero_shot=[1.0]), "has not 3 values, one for each task"),
    "cost that is null": (results(cost=None), "(cost is not an object)"),
    "no test images": (results(test_sizes=[0, 0, 0]), "(a task has no test images)"),
    "version of the future": (results(schema=2), "is of a newer gift-lightning (schema 2, this one reads 1)"),
    "deep nesting": (content("results.json", b"[" * 100_000), "is not valid JSON (nested too deeply)"),
    "not UTF-8": (content("results.json", b"{\xe9}"), "is not valid JSON"),
    "a number of 5000 digits": (content("results.json", b"9" * 5000), "is not valid JSON"),
    "folder": (folder_in_place_of("results.json"), "cannot be read: Is a directory"),
    "config in its place": (copy("config.yaml", "results.json"), "is not valid JSON"),
}

BAD_CONFIG: dict[str, tuple[Damage, str]] = {
    "empty": (content("config.yaml", b""), "(it is not an object)"),
    "not UTF-8": (content("config.yaml", b"a: \xe9"), "(it is not valid YAML)"),
    "deep nesting": (content("config.yaml", b"[" * 5_000), "(it is not valid YAML)"),
    "a date that does not exist": (content("config.yaml", b"a: 2024-13-41"), "(it is not valid YAML)"),
    "folder": (folder_in_place_of("config.yaml"), "(Is a directory)"),
    "results in its place": (copy("results.json", "config.yaml"), "(it has no model)"),
    "class of numbers": (config("model", "class_path", value=5), "(model.class_path is not a text)"),
    "clip as a text": (config("model", "init_args", "clip", value="x"), "(model.init_args.clip is not an object)"),
    "clip with another key": (config("model", "init_args", "clip", "x", value=1), "unexpected keyword argument 'x'"),
    "of another method": (
        config("model", "class_path", value="gift_lightning.methods.GIFT"),
        "results.json are of different runs",
    ),
}

BAD_WEIGHTS: dict[str, tuple[Damage, str]] = {
    "checkpoint in their place": (copy(CHECKPOINT, WEIGHTS), "task03.safetensors cannot be read"),
    "folder": (folder_in_place_of(WEIGHTS), "task03.safetensors is missing"),
    "those of another task": (
        copy("checkpoints/task01.safetensors", WEIGHTS),
        "task03.safetensors are not the weights with which this run ended: restore them, or run again.",
    ),
    "a flipped bit": (lambda run: flip(run / WEIGHTS), "task03.safetensors cannot be read"),
}

BAD_CHECKPOINT: dict[str, tuple[Damage, str]] = {
    "weights in its place": (copy(WEIGHTS, CHECKPOINT), "last.ckpt cannot be read: it is damaged, or not a checkpoint"),
    "a flipped bit": (lambda run: flip(run / CHECKPOINT), "last.ckpt cannot be read: it is damaged, for its checksums"),
    "a state dict": (
        lambda run: torch.save({"state_dict": {}}, run / CHECKPOINT),
        "last.ckpt holds weights alone, and no progress to resume from: give the last.ckpt of a run",
    ),
    "folder": (folder_in_place_of(CHECKPOINT), "last.ckpt is missing: restore it"),
    "nothing": (lambda run: (run / CHECKPOINT).unlink(), "last.ckpt is missing: restore it"),
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.fixture
def run(reference: Path, tmp_path: Path) -> Path:
    return shutil.copytree(reference, tmp_path / "three_tasks")


def assert_told(outcome: tuple[int, str, str], expected: str) -> None:
    status, _, err = outcome
    assert status == 2
    assert err.startswith("error: ") and len(err.strip().splitlines()) == 1, err
    assert expected in err


@pytest.mark.parametrize("case", BAD_RESULTS)
def test_results(case: str, reference: Path, run: Path, tmp_path: Path) -> None:
    damage, expected = BAD_RESULTS[case]
    damage(run)
    for form in ("terminal", "markdown", "latex"):
        assert_told(call("report", str(run), "--format", form), expected)
    assert_told(call("report", str(reference), str(run)), expected)
    assert_told(call("export", "--run", str(run), "--out", str(tmp_path / "out.safetensors")), expected)
    with pytest.raises(InputError) as error:
        gift_lightning.load(run)
    assert expected in str(error.value)


@pytest.mark.parametrize("case", BAD_CONFIG)
def test_config(case: str, run: Path, tmp_path: Path) -> None:
    damage, expected = BAD_CONFIG[case]
    damage(run)
    assert_told(call("export", "--run", str(run), "--out", str(tmp_path / "out.safetensors")), expected)
    with pytest.raises(InputError) as error:
        gift_lightning.load(run)
    assert expected in str(error.value)


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_weights(case: str, run: Path, tmp_path: Path) -> None:
    damage, expected = BAD_WEIGHTS[case]
    damage(run)
    assert_told(call("export", "--run", str(run), "--out", str(tmp_path / "out.safetensors")), expected)
    with pytest.raises(InputError) as error:
        gift_lightning.load(run)
    assert expected in str(error.value)


@pytest.mark.parametrize("case", BAD_CHECKPOINT)
def test_resume(case: str, run: Path, tmp_path: Path) -> None:
    damage, expected = BAD_CHECKPOINT[case]
    damage(run)
    results(complete=False)(run)
    assert_told(fit_here(tmp_path, "--ckpt_path", "last"), expected)


def test_a_finished_run_is_not_shown_with_damaged_results(run: Path, tmp_path: Path) -> None:
    for damage, expected in (BAD_RESULTS["R of another run"], BAD_RESULTS["folder"]):
        damage(run)
        assert_told(fit_here(tmp_path), expected)
    assert_told(fit_here(tmp_path, "--ckpt_path", "last"), BAD_RESULTS["folder"][1])


def test_what_a_run_only_writes_is_written_anew(run: Path, reference: Path, tmp_path: Path) -> None:
    for name, data in {"metrics.csv": b"a,b\n1,2\n", "environment.json": b"\xff", "accuracy_matrix.csv": b""}.items():
        (run / name).write_bytes(data)
    (run / "accuracy_matrix.png").unlink()
    (run / "accuracy_matrix.png").symlink_to("nowhere")
    results(complete=False)(run)
    assert fit_here(tmp_path, "--ckpt_path", "last")[0] == 0
    assert_same_run(run, reference)
    assert json.loads((run / "environment.json").read_text())["device"] == "cpu"


@pytest.mark.parametrize("name", ["metrics.csv", "environment.json", "accuracy_matrix.csv", "accuracy_matrix.png"])
def test_a_folder_in_place_of_a_file_that_a_run_writes(name: str, tmp_path: Path) -> None:
    (tmp_path / "three_tasks" / name).mkdir(parents=True)
    assert_told(fit_here(tmp_path, "--data.steps", "3"), f"{name} cannot be written: Is a directory")


@pytest.mark.parametrize(
    ("room", "name"),
    [(700, "config.yaml"), (20_000, "accuracy_matrix.png"), (100_000, "last.ckpt"), (100_000, "out.safetensors")],
)
def test_a_full_disk_names_the_file_that_has_no_room(room: int, name: str, run: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        if name == "out.safetensors":
            outcome = call("export", "--run", str(run), "--out", str(tmp_path / name))
        else:
            outcome = fit_here(tmp_path / "new", "--data.steps", "3")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_told(outcome, f"{name} cannot be written: ")
    assert not [path for path in tmp_path.rglob(".*") if "tmp" in path.name]


@pytest.mark.parametrize("data", [b"", b"a b", b"\xff\xfe", b"x" * 1000, b"a/b"])
def test_a_damaged_id_of_wandb(data: bytes, tmp_path: Path) -> None:
    assert _run_id(tmp_path) == _run_id(tmp_path)
    (tmp_path / "wandb_id").write_bytes(data)
    with pytest.raises(InputError, match="wandb_id is damaged, for it holds no id of a W&B run: restore it"):
        _run_id(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission(run: Path) -> None:
    (run / "results.json").chmod(0)
    assert_told(call("report", str(run)), "results.json cannot be read: Permission denied")
