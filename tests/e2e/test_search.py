"""A search: what is chosen, and that test images have no part in it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from gift_lightning.commands.sweep.file import Sweep, read_sweep
from gift_lightning.commands.sweep.search import searched
from gift_lightning.commands.sweep.table import table_of
from gift_lightning.commands.sweep.trials import Trial
from tests.e2e.conftest import CONFIG, call, read_results, run_command

pytest.importorskip("optuna")


def search_file(folder: Path, black: str | None = None, **search: Any) -> Path:
    """A search of two suggestions with two seeds, then of one that knows of them."""
    folder.mkdir(exist_ok=True)
    tasks = [{"class_path": f"tests.e2e.replaced.{kind}", "init_args": {"black": black}} for kind in _KINDS]
    space = {"model.init_args.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "model.init_args.l2": [0.0, 0.5]}
    content = {
        "name": "search",
        "root": str(folder / "runs"),
        "grid": {"method": {"l2": CONFIG}, "seed_everything": [0, 1]},
        "set": {"data.steps": 3, "data.validation_share": 0.3, "data.tasks": tasks},
        "search": {"trials": 3, "batch": 2, "space": space, **search},
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "sweep.yaml"


_KINDS = ("SomeFlags", "SomeShapes")


def search(sweep: Sweep) -> tuple[list[str], list[str]]:
    """The trials in their order, and those that were run, each in a process that has imported the stack."""
    begun: list[str] = []

    def run(trials: Sequence[Trial]) -> dict[str, str]:
        for trial in trials:
            if not (sweep.run(trial).path / "results.json").is_file():
                begun.append(trial.name)
                log = sweep.file.parent / "log.txt"
                assert run_command(["fit", *sweep.words(trial)], log) == 0, log.read_text()
        return {}

    assert sweep.search is not None
    trials, failed = searched(sweep, sweep.search, run, lambda line: None)
    assert not failed
    return [trial.name for trial in trials], begun


def test_test_images_change_nothing_that_is_chosen(tmp_path: Path) -> None:
    whole, black = (read_sweep(search_file(tmp_path / str(what), what)) for what in (None, "test"))
    names, begun = search(whole)
    assert names == begun and len(names) == 6 and {name[-6:] for name in names} == {"seed=0", "seed=1"}
    assert search(black)[0] == names  # the third suggestion follows from the results of the first ones
    ours, theirs = ([read_results(sweep.folder / name) for name in names] for sweep in (whole, black))
    assert [run["validation"] for run in ours] == [run["validation"] for run in theirs]
    assert [run["R"] for run in ours] != [run["R"] for run in theirs]
    assert search(whole) == (names, [])  # a second call asks for the same, and finds it


def test_the_table_is_that_of_validation(tmp_path: Path) -> None:
    file = search_file(tmp_path)
    sweep = read_sweep(file)
    names, _ = search(sweep)
    status, out, err = call("sweep", str(file))
    assert status == 0, err
    assert "On validation images" in out and "6 of 6 trials are finished" in out and "TEST" not in out
    means = {}
    for name in names:
        results = read_results(sweep.folder / name)
        means.setdefault(name.rpartition(",")[0], []).append(results["validation"]["metrics"]["avg"])
    best = max(means, key=lambda name: sum(means[name]))
    assert f"Best by cl/val/avg: {best} ({sum(means[best]) / 2:.1f})\n" in out
    assert "With all training images: python -m gift_lightning fit --config" in out
    assert "validation_share" not in out and "seed_everything" not in out


def test_a_choice_on_test_images_is_asked_for_and_said(tmp_path: Path) -> None:
    file = search_file(tmp_path, trials=1, metric="cl/last")
    status, _, err = call("sweep", str(file))
    assert status == 2 and "search.metric is measured on test images" in err
    search(read_sweep(file))
    status, out, err = call("sweep", str(file), "--select-on-test")
    assert status == 0, err
    assert "CHOSEN ON TEST IMAGES" in out and "On test images" in out and "Best by cl/last" in out


def test_a_search_needs_validation_images(tmp_path: Path) -> None:
    file = search_file(tmp_path)
    content = yaml.safe_load(file.read_text())
    del content["set"]["data.validation_share"]
    file.write_text(yaml.safe_dump(content))
    status, _, err = call("sweep", str(file))
    assert status == 2 and "a search needs validation images: add data.validation_share: 0.1 under 'set'" in err
    assert not list((tmp_path / "runs").glob("search/[!.]*"))


def test_a_search_ends_at_a_trial_that_failed(tmp_path: Path) -> None:
    space = {"model.init_args.clip.weights": ["/none.safetensors", None], "model.init_args.lr": [1e-3]}
    sweep = read_sweep(search_file(tmp_path, trials=8, batch=1, space=space))
    asked: list[str] = []

    def run(trials: Sequence[Trial]) -> dict[str, str]:
        asked.extend(trial.name for trial in trials)
        log = tmp_path / "log.txt"
        return {t.name: "no weights" for t in trials if run_command(["fit", *sweep.words(t)], log) != 0}

    assert sweep.search is not None
    trials, failed = searched(sweep, sweep.search, run, lambda line: None)
    assert failed and list(failed) == [trial.name for trial in trials if "none.safetensors" in trial.name]
    assert asked[-1] in failed and len(asked) < 16  # nothing was suggested without the result
    table, lines = table_of(sweep, trials)
    assert (table is None) == (len(failed) == len(trials)) and lines
