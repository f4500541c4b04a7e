"""A sweep: a grid of ordinary runs, each done once, whatever interrupts it."""

import atexit
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from gift_lightning.commands.sweep.file import read_sweep
from gift_lightning.commands.sweep.local import fit_command
from gift_lightning.commands.sweep.state import check
from gift_lightning.commands.sweep.table import table_of
from gift_lightning.commands.sweep.trials import Trial
from gift_lightning.errors import InputError
from tests.e2e.conftest import CONFIG, call, fit_here, read_results

METHODS = ("finetune", "l2", "wise_ft")
NAMES = [f"{method},seed={seed}" for method in METHODS for seed in (0, 1)]


def sweep_file(folder: Path, **more: object) -> Path:
    """A sweep of three methods with two seeds, or one with other keys."""
    folder.mkdir(exist_ok=True)
    for name, kind in (("finetune", "Finetune"), ("wise_ft", "WiSEFT")):
        (folder / f"{name}.yaml").write_text(f"model: {{class_path: gift_lightning.methods.{kind}}}\n")
    content = {
        "name": "grid",
        "root": str(folder / "runs"),
        "set": {"data.steps": 2},
        "grid": {
            "method": {"finetune": [CONFIG, "finetune.yaml"], "l2": CONFIG, "wise_ft": [CONFIG, "wise_ft.yaml"]},
            "seed_everything": [0, 1],
        },
        **more,
    }
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def command(file: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "gift_lightning", "sweep", str(file), *flags]


def start(file: Path, log: Path, *flags: str) -> "subprocess.Popen[bytes]":
    with open(log, "a") as out:
        process = subprocess.Popen(command(file, *flags), stdout=out, stderr=out, env={**os.environ, "COLUMNS": "100"})
    atexit.register(process.kill)  # of a test that fails
    return process


def wait_for(path: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
    while not path.exists():
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)


def complete(runs: Path) -> list[str]:
    return sorted(file.parent.name for file in runs.glob("*/results.json") if read_results(file.parent)["complete"])


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "submitit"])
def test_a_grid_is_run_once_and_shown(launcher: str, tmp_path: Path) -> None:
    if launcher == "submitit":
        pytest.importorskip("submitit")
    file, runs, log = sweep_file(tmp_path), tmp_path / "runs" / "grid", tmp_path / "log.txt"
    flags = ["--launcher", launcher, *(["--processes", "2"] if launcher == "local" else [])]
    first = start(file, log, *flags)
    wait_for(runs / NAMES[0] / "results.json", first, log)  # stopped with some of its trials in the middle
    first.send_signal(signal.SIGTERM)
    assert first.wait(100) == 143, log.read_text()
    assert "Stopped. Run the same command again" in log.read_text()
    if launcher == "local":
        assert len(complete(runs)) < len(NAMES) and not list(runs.glob("*/.lock"))
    status, out, err = call("sweep", str(file), *flags)
    while launcher == "submitit" and "it is run by process" in err:  # a job of the first call, which goes on
        status, out, err = call("sweep", str(file), *flags)
    assert status == 0 and "6 of 6 trials are finished" in out, err
    assert complete(runs) == sorted(NAMES)
    rows = [line.split()[0] for line in out.splitlines() if " ± " in line]
    assert sorted(rows) == sorted(METHODS)
    before = {name: (runs / name / "results.json").stat().st_mtime_ns for name in NAMES}
    status, _, err = call("sweep", str(file), *flags)
    assert status == 0 and "0 of 6 trials to run" in err
    assert before == {name: (runs / name / "results.json").stat().st_mtime_ns for name in NAMES}
    assert {read_results(runs / name)["method"] for name in NAMES} == {"Finetune", "L2", "WiSEFT"}
    assert {read_results(runs / name)["seed"] for name in NAMES} == {0, 1}
    assert call("report", *map(str, (path for path in runs.iterdir() if path.name[0] != ".")))[0] == 0


@pytest.mark.slow
def test_a_sweep_that_was_killed_waits_for_its_trials(tmp_path: Path) -> None:
    grid = {"method": {"l2": CONFIG}, "seed_everything": [0]}
    file, runs, log = sweep_file(tmp_path, grid=grid), tmp_path / "runs" / "grid", tmp_path / "log.txt"
    first = start(file, log)
    wait_for(runs / "l2,seed=0" / ".lock", first, log)
    status, _, err = call("sweep", str(file))
    assert status == 2 and f"{runs / '.sweep'} is in use by process {first.pid}" in err
    first.kill()
    first.wait()
    status, out, err = call("sweep", str(file))
    assert status == 0 and "1 of 1 trials are finished" in out, err
    assert "l2,seed=0 is run by process" in err or "0 of 1 trials to run" in err
    assert " begins" not in err


def test_a_trial_that_fails_is_told_and_the_others_run(tmp_path: Path) -> None:
    grid: dict[str, Any] = {"method": {"l2": CONFIG}, "model.init_args.clip.weights": [None, "/none.safetensors"]}
    file = sweep_file(tmp_path, grid=grid)
    status, out, err = call("sweep", str(file), "--processes", "2")
    assert status == 2 and "1 of 2 trials failed, the first one is l2,weights=none.safetensors~" in err, err
    assert re.search(r"failed: .*/none.safetensors", err)
    assert "1 of 2 trials are finished" in out and complete(tmp_path / "runs" / "grid") == ["l2,weights=null"]


def test_a_finished_trial_is_compared_with_the_sweep(tmp_path: Path) -> None:
    grid = {"method": {"l2": CONFIG}, "seed_everything": [0]}
    file = sweep_file(tmp_path, grid=grid)
    root, name = tmp_path / "runs", "grid/l2,seed=0"
    assert fit_here(root, "--run.name", name, "--seed_everything", "0", "--data.steps", "2")[0] == 0
    status, out, err = call("sweep", str(file))
    assert status == 0 and "0 of 1 trials to run" in err and "1 of 1 trials are finished" in out
    status, _, err = call("sweep", str(sweep_file(tmp_path, grid=grid, set={"data.steps": 3})))
    assert status == 2 and "l2,seed=0 holds a run with another data.steps (2 there, 3 here)" in err
    assert "give the sweep another name" in err


def test_names_say_what_differs(tmp_path: Path) -> None:
    grid: dict[str, Any] = {"data.replay.init_args.batch_size": [8], "data.batch_size": [8, 16]}
    grid |= {"data.tasks": [["a b/c"]], "method": {"l2": CONFIG}}
    sweep = read_sweep(sweep_file(tmp_path, grid=grid))
    (trial, _) = sweep.trials(sweep.points)
    assert re.fullmatch(r"data.replay.init_args.batch_size=8,data.batch_size=8,tasks=a_b_c~\w{6},l2", trial.name)
    assert trial.words[-1] == '--data.tasks=["a b/c"]'
    grid = {
        "model.init_args.lr": [1e-5, 0.5, -1],
        "method": {"l2": CONFIG},
        **{f"data.x{i}": ["y" * 99] for i in "abc"},
    }
    sweep = read_sweep(sweep_file(tmp_path, grid=grid))
    names = [trial.name for trial in sweep.trials(sweep.points)]
    assert [name.partition(",")[0] for name in names] == ["lr=1e-05", "lr=0.5", "lr=-1"]
    assert len({*names}) == 3 and all(len(name.encode()) < 160 for name in names)


def test_an_axis_of_overlays_may_have_none(tmp_path: Path) -> None:
    grid = {"method": {"l2": CONFIG}, "overlay": {"none": [], "finetune": "finetune.yaml"}, "seed_everything": [0]}
    sweep = read_sweep(sweep_file(tmp_path, grid=grid))
    trials = sweep.trials(sweep.points)
    assert [trial.name for trial in trials] == ["l2,none,seed=0", "l2,finetune,seed=0"]
    assert [trial.words.count("--config") for trial in trials] == [1, 2]
    check(sweep, trials)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "is no sweep (it is not an object): see conf/sweeps/mini.yaml"),
        ("grid: {}", "(it has no name)"),
        ("{name: x}", "(it has no grid)"),
        ("{name: x, grid: {method: {a: ''}}}", "has a config file without a name"),
        ("{name: x/.sweep, grid: {method: {a: a.yaml}}}", "give a shorter one, without .sweep"),
        ("{name: x, grid: {method: {l2: l2.yaml}, data.x: [10, 10.0]}}", "grid.data.x has 10.0 twice"),
        (
            "{name: x, grid: {method: {a: a.yaml}}, search: {trials: 1, space: {seed_everything: [0, 1]}}}",
            "give the seeds in the grid",
        ),
        (
            "{name: x, grid: {method: {a: a.yaml}}, search: {trials: 1, space: {data.x: [1, 1.0]}}}",
            "search.space.data.x has a value twice",
        ),
        ("{name: x, grid: {data.steps: [1]}}", "names no config: give one as grid: {method: {gift:"),
        ("{name: x, grid: {seed_everything: 1}}", "grid['seed_everything'] is not"),
        ("{name: x, grid: {seed_everything: []}}", "grid.seed_everything is empty: give at least one value."),
        ("{name: x, grd: {}}", "has the key 'grd' (did you mean 'grid'?): a sweep has grid, name, root, search, set"),
        (
            "{name: x, grid: {method: {l2: l2.yaml}, run.name: [a]}}",
            "sets run.name, which follows from root, name and what differs",
        ),
        ("{name: x, grid: {method: {l2: l2.yaml}, config: [a]}}", "'config' is no key of a config"),
        ("{name: x, grid: {method: {l2: l2.yaml}}, set: {ckpt_path: a}}", "'ckpt_path' is no key of a config"),
        ("{name: x, grid: {method: {l2: l2.yaml}}, set: {'data.steps=3 --x': a}}", "is no key of a config"),
        ("{name: x, grid: {method: {l2: l2.yaml}, 1: [a]}}", "'1' is no key of a config"),
        ("{name: x, grid: {method: {l2: l2.yaml}, data.steps: [1, 1]}}", "grid.data.steps has 1 twice"),
        (
            "{name: x, grid: {method: {l2: l2.yaml}, data.steps: [1e-3, 0.001]}}",
            "grid.data.steps has 0.001 twice",
        ),
        ("{name: x, grid: {method: {a: a.yaml, A: a.yaml}}}", "has two trials called 'a'"),
        ("{name: x, grid: {method: {l2: l2.yaml}, data.steps: [1]}, set: {data.steps: 2}}", "sets data.steps twice"),
        (
            "{name: x, grid: {method: {l2: l2.yaml}, model.lr: [1]}, set: {model.init_args.lr: 2}}",
            "sets model.lr twice",
        ),
        (
            "{name: x, grid: {method: {l2: l2.yaml}, data.replay: [null]}, set: {data.replay.batch_size: 2}}",
            "data.replay.batch_size twice",
        ),
        ("{name: x, grid: {seed_everything: {a: b.yaml}}}", "names config files: call it method"),
        ("{name: x, grid: {method: {l2: l2.yaml}, data.steps: [.inf]}}", "data.steps is inf: give a finite number"),
        ("{name: x, grid: &a [*a]}", "refers to a value that contains it"),
        ("{name: ../x, grid: {method: {l2: l2.yaml}}}", "give the name of a folder below"),
        ("{", "is not valid YAML"),
        ("{name: x, grid: {method: {l2: l2.yaml}}, search: {trials: 2, space: {}}}", "search.space is empty"),
        (
            "{name: x, grid: {method: {l2: l2.yaml}}, search: {trials: 0, space: {data.steps: [1]}}}",
            "search.trials is 0: give at least 1",
        ),
        (
            "{name: x, grid: {method: {l2: l2.yaml}}, search: {trials: 1, space: {data.steps: {low: 2, high: 1}}}}",
            "needs a low below high",
        ),
        (
            "{name: x, grid: {m: {a: a.yaml}}, search: {trials: 1, space: {data.x: {low: 0, high: 1, log: true}}}}",
            "above 0 if log is true",
        ),
        (
            "{name: x, grid: {method: {l2: l2.yaml}}, search: {trials: 1, space: {data.steps: 3}}}",
            "is neither a list of values nor {low, high}",
        ),
        (
            "{name: x, grid: {method: {l2: l2.yaml}}, search: {trials: 1, metric: avg, space: {data.steps: [1]}}}",
            "search.metric is 'avg': give one",
        ),
        (
            "{name: x, grid: {method: {l2: l2.yaml}}, search: {trials: 1, metric: cl/avg, space: {data.steps: [1]}}}",
            "or add --select-on-test",
        ),
        ("{method: grid, parameters: {}}", "is a sweep of Weights & Biases: 'wandb sweep"),
    ],
)
def test_bad_files(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(content)
    status, _, err = call("sweep", str(tmp_path / "sweep.yaml"))
    assert status == 2 and told in err and err.count("\n") == 1, err
    assert not (tmp_path / "runs").exists()


def test_bad_words(tmp_path: Path) -> None:
    assert "does not exist" in call("sweep", str(tmp_path / "none.yaml"))[2]
    file = str(sweep_file(tmp_path))
    for flags, told in (
        (["--launcher", "ray"], "--launcher must be local or submitit, not 'ray'"),
        (["--processes", "0"], "--processes must be a whole number of at least 1, not '0'"),
        (["--select-on-test"], "is for a search"),
        (["--config", CONFIG], "--config is no option of sweep: all settings of its runs are in the file."),
    ):
        status, _, err = call("sweep", file, *flags)
        assert status == 2 and told in err, err
    with pytest.raises(InputError, match=r"sweep: .* does not exist"):
        read_sweep(tmp_path / "none.yaml")


def test_a_trial_that_is_no_run_is_told_before_any_runs(tmp_path: Path) -> None:
    file = sweep_file(tmp_path, grid={"method": {"l2": CONFIG}, "model.init_args.l3": [1]})
    status, _, err = call("sweep", str(file))
    assert status == 2 and "trial l2,l3=1: model: gift_lightning.methods.L2 has no option 'l3'" in err
    assert not list((tmp_path / "runs").glob("grid/*/"))


def test_a_trial_runs_by_the_config_that_was_checked(tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(f"base: {CONFIG}\ndata: {{steps: 2}}\n")
    sweep = read_sweep(sweep_file(tmp_path, grid={"method": {"own": str(config)}, "seed_everything": [0]}, set={}))
    (trial,) = sweep.trials(sweep.points)
    check(sweep, [trial])
    config.write_text(f"base: {CONFIG}\ndata: {{steps: 3}}\n")
    words = fit_command(sweep, trial)[3:]
    assert call(*words)[0] == 0
    assert sweep.run(trial).read_config()["data"]["steps"] == 2
    with pytest.raises(InputError, match=r"holds a run with another data.steps \(2 there, 3 here\)"):
        check(sweep, [trial])


def test_only_rows_with_all_seeds_are_chosen(tmp_path: Path) -> None:
    grid = {"method": {"a": CONFIG, "b": CONFIG}, "seed_everything": [0, 1]}
    sweep = read_sweep(sweep_file(tmp_path, grid=grid))
    trials = sweep.trials(sweep.points)

    def leave(trial: Trial, value: float, protocol: str = "x", held: bool = True) -> None:
        numbers = {"R": [[value]], "zero_shot": [value], "metrics": {"transfer": None, "avg": value, "last": value}}
        results = {"method": "L2", "tasks": ["A"], "complete": True, "protocol": {"id": protocol}, **numbers}
        validation = {"validation": {"sizes": [3], **numbers}} if held else {}
        folder = sweep.run(trial).path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text(json.dumps({**results, **validation}))

    for trial, value in zip(trials, (60.0, 62.0, 80.0), strict=False):
        leave(trial, value)
    lines = table_of(sweep, trials)[1]
    assert lines[0] == "Best by cl/val/avg (without 1 that lack a seed): a (61.0)" and "3 of 4 trials" in lines[-1]
    leave(trials[3], 70.0)
    assert table_of(sweep, trials)[1][0] == "Best by cl/val/avg: b (75.0)"
    leave(trials[3], 70.0, protocol="y")
    assert table_of(sweep, trials)[1][0].startswith("The rows differ in their protocol")
    leave(trials[3], 70.0, held=False)
    table, lines = table_of(sweep, trials)
    assert lines[0] == "Without validation images, so that no row is chosen: 1 trials."
    assert table is not None and table.title == "On test images"
