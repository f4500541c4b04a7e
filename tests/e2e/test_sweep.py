"""A sweep: a grid of ordinary runs, each done once, whatever interrupts it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from gift_lightning.commands.sweep.trials import read_sweep
from gift_lightning.errors import InputError
from tests.e2e.conftest import CONFIG, call, read_results

NAMES = [f"{method},seed_everything={seed}" for method in ("l2", "finetune") for seed in (0, 1)]


def sweep_file(folder: Path, **more: object) -> Path:
    (folder / "finetune.yaml").write_text("model: {class_path: gift_lightning.methods.Finetune}\n")
    content = {
        "name": "grid",
        "root": str(folder / "runs"),
        "processes": 2,
        "set": {"data.steps": 2},
        "grid": {
            "method": {"l2": CONFIG, "finetune": [CONFIG, str(folder / "finetune.yaml")]},
            "seed_everything": [0, 1],
        },
        **more,
    }
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def command(file: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "gift_lightning", "sweep", str(file), *flags]


@pytest.mark.slow
def test_a_grid_is_run_once_and_shown(tmp_path: Path) -> None:
    file, runs = sweep_file(tmp_path), tmp_path / "runs" / "grid"
    log = tmp_path / "log.txt"
    with open(log, "w") as out:  # killed half-way, with its trials in the middle
        first = subprocess.Popen(command(file), stdout=out, stderr=out, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while not [name for name in NAMES if (runs / name / "checkpoints" / "last.ckpt").is_file()]:
            assert first.poll() is None, log.read_text()
            time.sleep(0.05)
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 143, log.read_text()
    assert not [name for name in NAMES if _is_complete(runs / name)] or len([*filter(_is_complete, runs.iterdir())]) < 4
    second = subprocess.run(command(file), capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert all(_is_complete(runs / name) for name in NAMES)
    assert "4 of 4 trials are finished" in second.stdout and second.stdout.count(" ± ") >= 6
    rows = [line.split()[0] for line in second.stdout.splitlines() if " ± " in line]
    assert sorted(rows) == ["finetune", "l2"]
    before = {name: (runs / name / "results.json").stat().st_mtime_ns for name in NAMES}
    third = subprocess.run(command(file), capture_output=True, text=True, check=False)
    assert third.returncode == 0 and "4 trials in" in third.stderr and ", 0 to run" in third.stderr
    assert before == {name: (runs / name / "results.json").stat().st_mtime_ns for name in NAMES}
    assert {read_results(runs / name)["method"] for name in NAMES} == {"L2", "Finetune"}
    assert {read_results(runs / name)["seed"] for name in NAMES} == {0, 1}


def _is_complete(run: Path) -> bool:
    return (run / "results.json").is_file() and bool(read_results(run)["complete"])


def test_a_trial_that_fails_is_told_and_the_others_run(tmp_path: Path) -> None:
    grid = {"data.steps": [1, 0], "model.l2": [0.5]}
    file = sweep_file(tmp_path, grid={"method": {"l2": CONFIG}, **grid}, set={}, processes=1)
    status, out, err = call("sweep", str(file))
    assert status == 2 and "1 of 2 trials failed, the first one is l2,steps=0,l2=0.5" in err
    assert "failed with status 2: error: data.steps is 0: give at least 1 optimiser step" in err
    assert "1 of 2 trials are finished" in out and _is_complete(tmp_path / "runs" / "grid" / "l2,steps=1,l2=0.5")


def test_names_say_what_differs(tmp_path: Path) -> None:
    grid = {"data.replay.init_args.batch_size": [8], "data.batch_size": [8, 16], "data.tasks": [["a b/c"]]}
    (trial, _) = read_sweep(sweep_file(tmp_path, grid=grid)).trials
    assert trial.name == 'data.replay.init_args.batch_size=8,data.batch_size=8,tasks=["ab_c"]' == trial.group
    assert trial.words[-2:] == ("--data.tasks", '["a b/c"]')


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "is no sweep (it is not an object): give name and grid"),
        ("grid: {}", "(it has no name)"),
        ("{name: x, grid: {seed_everything: 1}}", "grid['seed_everything'] is not"),
        ("{name: x, grid: {seed_everything: []}}", "grid.seed_everything is empty: give at least one value."),
        (
            "{name: x, grd: {}}",
            "has the key 'grd' (did you mean 'grid'?): a sweep has grid, name, processes, root, set.",
        ),
        ("{name: x, processes: 0}", "processes is 0: give at least 1."),
        ("{name: x, grid: {run.name: [a]}}", "sets run.name, which follows from root, name and what differs"),
        ("{name: x, grid: {data.steps: [1, 1]}}", "has two trials called 'steps=1'"),
        ("{name: ../x}", "give the name of a folder below"),
        ("{", "is not valid YAML"),
    ],
)
def test_bad_files(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(content)
    status, _, err = call("sweep", str(tmp_path / "sweep.yaml"))
    assert status == 2 and told in err and err.count("\n") == 1, err


def test_bad_words(tmp_path: Path) -> None:
    assert "does not exist" in call("sweep", str(tmp_path / "none.yaml"))[2]
    status, _, err = call("sweep", str(sweep_file(tmp_path)), "--run.name", "x")
    assert status == 2 and "--run.name is for one run" in err
    with pytest.raises(InputError, match=r"sweep: .* does not exist"):
        read_sweep(tmp_path / "none.yaml")
