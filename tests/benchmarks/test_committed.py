"""The numbers that are committed belong together, and the benchmark has something to measure."""

import json
from collections import defaultdict
from statistics import mean
from typing import Any

import pytest

from benchmarks.mini import END, ROOT, START
from gift_lightning.records.report import comparison_markdown

Runs = list[dict[str, Any]]


@pytest.fixture(scope="module")
def runs() -> Runs:
    return json.loads((ROOT / "benchmarks" / "mini.json").read_text())


def by_method(runs: Runs) -> dict[str, Runs]:
    groups = defaultdict(list)
    for run in runs:
        groups[run["method"]].append(run)
    return groups


def mean_of(runs: Runs, method: str, metric: str) -> float:
    return mean(run["metrics"][metric] for run in by_method(runs)[method])


def test_the_readme_shows_the_committed_runs(runs: Runs) -> None:
    table = (ROOT / "README.md").read_text().split(START)[1].split(END)[0]
    assert table.strip() == comparison_markdown(runs).strip()


def test_the_ablations_are_of_the_same_benchmark(runs: Runs) -> None:
    ablations: Runs = json.loads((ROOT / "benchmarks" / "ablations.json").read_text())
    assert {run["protocol"] for run in ablations} == {runs[0]["protocol"]}
    table = (ROOT / "docs" / "ablations.md").read_text().split(START)[1].split(END)[0]
    assert table.strip() == comparison_markdown(ablations).strip()


def test_all_runs_are_of_one_benchmark(runs: Runs) -> None:
    assert len({run["protocol"] for run in runs}) == 1
    methods = {path.stem for path in (ROOT / "conf" / "mini").glob("*.yaml")} - {"zscl_star"}
    for method in {*methods, "gift+no_awc", "gift+oracle", "gift+noise"}:
        assert {run["seed"] for run in by_method(runs)[method]} >= {0, 1, 2}, method


def test_the_pre_trained_clip_alone_learns_nothing(runs: Runs) -> None:
    assert {run["method"] for run in runs if not run["learns"]} == {"zero_shot"}


def test_fine_tuning_forgets(runs: Runs) -> None:
    finetune = by_method(runs)["finetune"]
    diagonal = mean(run["R"][task][task] for run in finetune for task in range(6))
    assert mean_of(runs, "finetune", "transfer") <= mean_of(runs, "zero_shot", "transfer") - 20
    assert mean_of(runs, "finetune", "last") <= diagonal - 15


def test_five_of_six_tasks_have_something_to_learn(runs: Runs) -> None:
    alone = by_method(runs)["individual"]
    assert alone
    for run in alone:
        gains = [run["R"][task][task] - run["zero_shot"][task] for task in range(6)]
        assert sum(gain >= 5 for gain in gains) >= 5


def test_gift_keeps_what_the_clip_knew_and_what_it_learned(runs: Runs) -> None:
    assert mean_of(runs, "gift", "transfer") >= mean_of(runs, "zero_shot", "transfer") - 3
    assert mean_of(runs, "gift", "last") >= mean_of(runs, "finetune", "last") + 12


def test_distillation_keeps_what_the_clip_knew(runs: Runs) -> None:
    """The order of the published tables, as far as it is one of methods and not of settings."""
    transfer = {method: mean_of(runs, method, "transfer") for method in by_method(runs)}
    learning = set(transfer) - {"zero_shot", "finetune", "individual"}
    assert transfer["finetune"] < min(transfer[method] for method in learning)
    assert transfer["finetune"] < transfer["lwf"] < transfer["zscl"]
    assert transfer["zscl"] >= transfer["zero_shot"] - 3
    assert mean_of(runs, "zscl", "last") > mean_of(runs, "finetune", "last")
    assert mean_of(runs, "gift", "avg") >= mean_of(runs, "zscl", "avg")


def test_fused_models_come_back(runs: Runs) -> None:
    alone = mean(run["R"][task][task] for run in by_method(runs)["individual"] for task in range(6))
    last, transfer = mean_of(runs, "condu", "last"), mean_of(runs, "condu", "transfer")
    assert last >= 0.92 * alone
    assert transfer >= mean_of(runs, "zero_shot", "transfer") - 6
    assert last >= mean_of(runs, "finetune", "last") + 15
    assert transfer >= mean_of(runs, "finetune", "transfer") + 15
    assert mean_of(runs, "condu_lora", "last") >= last - 4


def test_adapters_leave_what_the_clip_knew(runs: Runs) -> None:
    assert mean_of(runs, "moe_adapter", "transfer") >= mean_of(runs, "zero_shot", "transfer") - 3
    assert mean_of(runs, "moe_adapter", "last") >= mean_of(runs, "finetune", "last") + 15


def test_what_is_on_the_images_matters(runs: Runs) -> None:
    drawn, oracle, finetune = (mean_of(runs, method, "avg") for method in ("gift", "gift+oracle", "finetune"))
    assert drawn - finetune >= 0.75 * (oracle - finetune)
    assert mean_of(runs, "gift+noise", "transfer") <= mean_of(runs, "gift", "transfer") - 4
