"""Weights & Biases offline: one run for a sequence that was killed and resumed, read back from its files."""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml
from wandb.proto.wandb_internal_pb2 import Record
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from gift_lightning.records.wandb_logger import SequenceWandbLogger
from tests.e2e.conftest import CONFIG, kill_at, read_results, run_command

HERE, CONF = Path(__file__).parent, Path(__file__).parents[2] / "conf"
DOCS = CONF.parent / "docs" / "logging.md"
KINDS, SIZES = ("Flags", "Shapes"), {"train_size": 40, "test_size": 20}
GIFT = [f"--config={path}" for path in (CONFIG, HERE / "gift.yaml", CONF / "logger" / "wandb.yaml")]


def records(path: Path) -> Iterator[Record]:
    """The records of an offline file: 7 bytes, then blocks of 32 KiB with parts of records (length, which part)."""
    data, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if (room := 32768 - position % 32768) < 7:
            position += room
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def sweep() -> dict[str, Any]:
    """The sweep of W&B that the repository has."""
    return yaml.safe_load((CONF / "sweeps" / "wandb.yaml").read_text())


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed in its second task and resumed."""
    root = tmp_path_factory.mktemp("wandb")
    argv, log = ["fit", *GIFT, "--run.root", str(root), "--run.predictions", "true"], root / "log.txt"
    assert run_command([*argv, *kill_at("step", 14)], log) == -9
    assert run_command([*argv, "--ckpt_path", "last"], log) == 0, log.read_text()
    return next(root.glob("*/results.json")).parent


@pytest.fixture(scope="module")
def parts(run: Path) -> list[list[Record]]:
    return [list(records(path)) for path in sorted(run.glob("wandb/offline-run-*/*.wandb"))]


def histories(parts: list[list[Record]]) -> list[dict[str, Any]]:
    return [values(record.history.item) for part in parts for record in part if record.HasField("history")]


def test_both_parts_are_one_run(parts: list[list[Record]], run: Path) -> None:
    runs = [record.run for part in parts for record in part if record.HasField("run")]
    assert len(parts) == len(runs) == 2
    assert len({one.run_id for one in runs}) == 1
    assert {one.display_name for one in runs} == {run.name}
    configs = [values(record.config.update) for record in parts[1] if record.HasField("config")]
    assert any(config.get("data", {}).get("batch_size") for config in configs)


def test_axes(parts: list[list[Record]]) -> None:
    for part in parts:  # by their names: W&B takes any of several patterns that match
        axes = {record.metric.name: record.metric.step_metric for record in part if record.HasField("metric")}
        logged = {name for row in histories([part]) for name in row}
        of_tasks = {
            "/".join(name.split("/")[: 3 if "accuracy/" in name else 2]) for name in logged if name[:3] == "cl/"
        }
        assert of_tasks >= {"cl/avg", "cl/accuracy/Flags", "cl/accuracy_matrix", "cl/heatmap", "cl/replay"}
        assert {name: axes.get(name) for name in of_tasks - {"cl/task"}} == dict.fromkeys(
            of_tasks - {"cl/task"}, "cl/task"
        )


def test_metrics_of_the_sequence(parts: list[list[Record]], run: Path) -> None:
    results = read_results(run)
    rows = {row["cl/task"]: row for row in histories(parts) if "cl/accuracy/Flags" in row}
    assert sorted(rows) == [0, 1, 2, 3]
    for task, row in enumerate([results["zero_shot"], *results["R"]]):
        assert [rows[task][f"cl/accuracy/{name}"] for name in results["tasks"]] == pytest.approx(row)
    last = rows[3]
    for name in ("transfer", "avg", "last"):
        assert last[f"cl/{name}"] == pytest.approx(results["metrics"][name])
    summary = {key: value for r in parts[1] if r.HasField("summary") for key, value in values(r.summary.update).items()}
    for name in ("Transfer", "Avg", "Last"):
        assert summary[name] == pytest.approx(results["metrics"][name.lower()])


def test_rows_of_both_parts_are_those_of_one_run(parts: list[list[Record]], run: Path) -> None:
    rows: dict[int, dict[str, Any]] = {}
    for part in parts:
        steps = [row["_step"] for row in histories([part])]
        assert steps == list(range(steps[0], steps[0] + len(steps)))
    for row in histories(parts):  # the second part repeats rows after the checkpoint, with the same numbers and values
        logged = {key: value for key, value in row.items() if isinstance(value, float | int) and key[0] != "_"}
        assert rows.setdefault(row["_step"], logged) == logged
    assert sorted(rows) == list(range(len(rows)))
    in_order = [rows[step] for step in sorted(rows)]
    assert [row["cl/task"] for row in in_order if "cl/accuracy/Flags" in row] == [0, 1, 2, 3]
    losses = [row["trainer/global_step"] for row in in_order if "loss/task" in row]
    assert losses == sorted(set(losses))
    table = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    at = table[0].index("loss/task")
    assert losses == [int(line[0]) for line in table[1:] if line[at]]


def test_charts_of_lines(parts: list[list[Record]], run: Path) -> None:
    results = read_results(run)
    charts = {}
    for name in ("curves", "averages"):
        tables = [
            json.loads(path.read_text()) for path in run.glob(f"wandb/*/files/media/table/cl/{name}_table_*.json")
        ]
        charts[name] = {(key, step): value for step, key, value in max((t["data"] for t in tables), key=len)}
    for step, row in enumerate([results["zero_shot"], *results["R"]]):
        assert [charts["curves"][name, step] for name in results["tasks"]] == pytest.approx(row)
    assert charts["averages"]["Last", 3] == pytest.approx(results["metrics"]["last"])
    assert charts["averages"]["Transfer", 1] == pytest.approx(sum(results["R"][0][1:]) / 2)
    configs = [values(record.config.update) for record in parts[-1] if record.HasField("config")]
    assert any("lineseries" in json.dumps(config) for config in configs)


def test_names_of_the_documentation(parts: list[list[Record]]) -> None:
    text = DOCS.read_text()
    logged = {name for row in histories(parts) for name in row if name.startswith(("cl/", "loss/", "lr", "fisher/"))}
    documented = set(re.findall(r"`(cl/\w+|lr)(?:/<task>)?`", text))
    stems = {"/".join(name.split("/")[:2]).removesuffix("_table") for name in logged}
    assert {name for name in stems if name.startswith(("cl/", "lr"))} == documented


def test_commands_of_a_sweep(tmp_path: Path) -> None:
    """What an agent would start, twice with other values, and once more with those of the first run."""
    small = {"data.steps": 2, "data.replay.init_args.images_per_task": 4, "data.replay.init_args.batch_size": 4}
    given = [("abc", 1e-3, 0.1), ("def", 2e-3, 0.1), ("ghi", 1e-3, 0.1)]
    for run_id, *chosen in given:
        chosen = dict(zip(("model.init_args.lr", "model.init_args.consolidation_weight"), chosen, strict=True))
        assert {*chosen, "data.validation_share"} == {*sweep()["parameters"]}
        arguments = {"data.validation_share": 0.1, **chosen, **small, "run.root": str(tmp_path)}
        flags = create_sweep_command_args({"args": {name: {"value": value} for name, value in arguments.items()}})[
            "args"
        ]
        argv = [
            part.replace("=conf/", f"={CONF}/")
            for word in create_sweep_command(sweep()["command"])[3:]
            for part in (flags if word == "${args}" else [word])
        ]
        tasks = json.dumps([{"class_path": f"datamodules.mini.{kind}", "init_args": SIZES} for kind in KINDS])
        environment = {"WANDB_RUN_ID": run_id, "WANDB_SWEEP_ID": "s", "WANDB_MODE": "offline"}
        log = tmp_path / f"{run_id}.txt"
        assert run_command([*argv, f"--data.tasks={tasks}"], log, **environment) == 0, log.read_text()
    runs = [tmp_path / "wandb" / run_id for run_id, *_ in given]
    assert all(read_results(run)["complete"] for run in runs)
    assert read_results(runs[0])["validation"] == read_results(runs[2])["validation"]
    for run in runs:
        (file,) = run.glob("wandb/offline-run-*/*.wandb")
        (begun,) = {record.run.run_id for record in records(file) if record.HasField("run")}
        assert begun == run.name
        logged = [values(record.history.item) for record in records(file) if record.HasField("history")]
        assert any(sweep()["metric"]["name"] in row for row in logged)


def test_losses_against_the_step(parts: list[list[Record]]) -> None:
    steps = [row["trainer/global_step"] for row in histories(parts) if "loss/image_distillation" in row]
    assert len(set(steps)) > 3


def test_matrix_and_images(parts: list[list[Record]], run: Path) -> None:
    results = read_results(run)
    tables = run.glob("wandb/offline-run-*/files/media/table/cl/accuracy_matrix_*.json")
    table = json.loads(max(tables, key=lambda path: path.stat().st_size).read_text())
    assert table["columns"] == ["after", *results["tasks"]]
    assert [row[0] for row in table["data"]] == ["zero-shot", *results["tasks"]]
    assert table["data"][-1][1:] == pytest.approx(results["R"][-1])
    assert len(list(run.glob("wandb/offline-run-*/files/media/images/cl/heatmap_*.png"))) == len(results["tasks"])
    captions = {row["cl/task"]: row["cl/replay/captions"] for row in histories(parts) if "cl/replay/captions" in row}
    assert sorted(captions) == [1, 2, 3]
    assert all(caption.startswith(("a ", "an ")) for caption in captions[1])
    files = list(run.glob("wandb/offline-run-*/files/media/images/cl/replay_*.png"))
    assert len(files) >= len(captions[1])


def test_table_of_classes(run: Path) -> None:
    results = read_results(run)
    tables = [json.loads(path.read_text()) for path in run.glob("wandb/*/files/media/table/cl/classes_*.json")]
    table = max(tables, key=lambda each: len(each["data"]))
    assert table["columns"] == ["task", "name", "images", "zero-shot", "learned", "end"]
    for index, task in enumerate(results["tasks"]):
        rows = [row[2:] for row in table["data"] if row[0] == task]
        images = sum(row[0] for row in rows)
        for at, accuracy in ((1, results["zero_shot"]), (2, results["R"][index]), (3, results["R"][-1])):
            assert sum(row[0] * row[at] for row in rows) / images == pytest.approx(accuracy[index], rel=1e-5)


def test_the_csv_is_written_too(run: Path) -> None:
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"cl/avg", "loss/task", "loss/image_distillation"} <= set(header)


@pytest.mark.parametrize(
    ("key", "mode"), [(None, "offline"), ("0" * 40, "online")], ids=["without an account", "with a key"]
)
def test_without_an_account_it_stays_offline(
    key: str | None, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    if key is not None:
        monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    wandb.teardown()  # the settings of a run in this process, which another test may have made, would stay
    found = SequenceWandbLogger(str(tmp_path))._mode()
    wandb.teardown()  # as would these, for the next test
    assert found == mode
