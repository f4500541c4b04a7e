"""The numbers that are committed belong together, and the benchmark has something to measure."""

import json
from collections import defaultdict
from statistics import mean
from typing import Any

import pytest

from benchmarks.mini import END, ROOT, START
from gift_lightning.report import comparison_markdown

Runs = list[dict[str, Any]]


@pytest.fixture(scope="module")
def runs() -> Runs:
    return json.loads((ROOT / "benchmarks" / "mini.json").read_text())


def by_method(runs: Runs) -> dict[str, Runs]:
    groups = defaultdict(list)
    for run in runs:
        groups[run["method"]].append(run)
    return groups


def test_the_readme_shows_the_committed_runs(runs: Runs) -> None:
    table = (ROOT / "README.md").read_text().split(START)[1].split(END)[0]
    assert table.strip() == comparison_markdown(runs).strip()


def test_all_runs_are_of_one_benchmark(runs: Runs) -> None:
    assert len({run["protocol"] for run in runs}) == 1
    for method in ("zero_shot", "finetune", "l2"):
        assert {run["seed"] for run in by_method(runs)[method]} >= {0, 1, 2}, method


def test_fine_tuning_forgets(runs: Runs) -> None:
    (zero_shot, *_), finetune = (by_method(runs)[method] for method in ("zero_shot", "finetune"))
    transfer, last = (mean(run["metrics"][name] for run in finetune) for name in ("transfer", "last"))
    diagonal = mean(run["R"][task][task] for run in finetune for task in range(6))
    assert transfer <= zero_shot["metrics"]["transfer"] - 20
    assert last <= diagonal - 15


def test_every_task_has_something_to_learn(runs: Runs) -> None:
    alone = by_method(runs)["individual"]
    assert alone
    for run in alone:
        gains = [run["R"][task][task] - run["zero_shot"][task] for task in range(6)]
        assert sum(gain >= 5 for gain in gains) >= 5
