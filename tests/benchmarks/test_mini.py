"""The benchmark's bookkeeping: what is run, what is kept, what is written. No training."""

import json
import signal

import pytest
import yaml

from benchmarks import mini
from gift_lightning.commands.sweep.file import read_sweep
from gift_lightning.commands.sweep.signals import Interrupted

README = f"# Title\n\nbefore\n\n{mini.START}\nold\n{mini.END}\n\nafter\n"
CONFIGS = mini.ROOT / "conf" / "mini"


def results(last=70.0, seed=0, **more):
    rows = [[80.0, 50.0], [60.0, last]]
    measured = {
        "metrics": {"transfer": 50.0, "avg": 65.0, "last": (60 + last) / 2},
        "cost": {"train_seconds": [1.0, 2.0]},
    }
    protocol = {"id": "of MiniMTIL"}
    return (
        {
            "method": "Finetune",
            "seed": seed,
            "tasks": ["A", "B"],
            "protocol": protocol,
            "R": rows,
            "zero_shot": [40.0, 50.0],
            "complete": True,
            "learns": True,
        }
        | measured
        | more
    )


def settings_of(method):
    """Of a trial of that method."""
    name, *overlays = method.split("+")
    files = [CONFIGS / f"{name}.yaml", *(mini.ROOT / "conf" / "ablation" / f"{overlay}.yaml" for overlay in overlays)]
    return mini.settings_of(mini.Trial("", method, tuple(word for file in files for word in ("--config", str(file)))))


def entry(method, seed, **more):
    more["seed"] = seed
    known = {"method": method, "seed": seed, "protocol": "of MiniMTIL", "settings": settings_of(method)}
    return known | {key: results(**more)[key] for key in mini.KEYS}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """``bench(methods, seeds)`` runs ``main`` on the files of ``tmp_path``; ``bench.started`` are the trials it ran.

    ``bench.outcome(name)`` says what such a trial leaves: the ``results.json``, or nothing.
    """
    (tmp_path / "README.md").write_text(README)

    def bench(methods, seeds=(0,)):
        grid = {"method": {name: str(CONFIGS / f"{name}.yaml") for name in methods}, "seed_everything": [*seeds]}
        (tmp_path / "sweep.yaml").write_text(
            yaml.safe_dump({"name": "table", "root": str(tmp_path), "grid": grid}, sort_keys=False)
        )
        files = ["--out", tmp_path / "mini.json", "--readme", tmp_path / "README.md"]
        return mini.main([str(tmp_path / "sweep.yaml"), *map(str, files)])

    class Processes:
        def __init__(self, sweep, count, heard, report):
            self.sweep = sweep

        def run(self, trials):
            failed = {}
            for trial in trials:
                bench.started.append(trial.name)
                left = bench.outcome(trial.name)
                if left is None:
                    failed[trial.name] = "no room"
                    continue
                folder = self.sweep.run(trial).path
                folder.mkdir(parents=True)
                (folder / "results.json").write_text(json.dumps(left))
            return failed

    monkeypatch.setattr(mini, "Processes", Processes)
    bench.started, bench.outcome = [], lambda name: results(seed=int(name[-1]))
    bench.runs = lambda: json.loads((tmp_path / "mini.json").read_text())
    bench.readme = lambda: (tmp_path / "README.md").read_text()
    bench.path = tmp_path
    return bench


def test_runs_what_is_missing_and_writes_file_and_table(bench):
    (bench.path / "mini.json").write_text(json.dumps([entry("l2", 0, last=90.0)]))
    assert bench(["l2", "finetune"], [1, 0]) == 0
    assert bench.started == ["l2,seed=1", "finetune,seed=1", "finetune,seed=0"]
    runs = bench.runs()
    assert [(run["method"], run["seed"]) for run in runs] == [("finetune", 0), ("finetune", 1), ("l2", 0), ("l2", 1)]
    assert runs[2] == entry("l2", 0, last=90.0) and runs[3] == entry("l2", 1)
    assert "\n| l2 | 50.0 ± 0.0 | 65.0 ± 0.0 | 70.0 ± 7.1 | 3 ± 0 | 2 |\n" in bench.readme()
    assert bench.readme().startswith(f"# Title\n\nbefore\n\n{mini.START}\n| Method |")
    assert bench.readme().endswith(f" |\n{mini.END}\n\nafter\n")


def test_second_call_runs_and_changes_nothing(bench):
    assert bench(["finetune"]) == 0
    before = (bench.path / "mini.json").read_bytes(), bench.readme()
    assert bench(["finetune"]) == 0
    assert len(bench.started) == 1 and before == ((bench.path / "mini.json").read_bytes(), bench.readme())


def test_a_row_of_other_settings_is_made_anew(bench):
    (bench.path / "mini.json").write_text(json.dumps([entry("l2", 0, last=90.0) | {"settings": "older"}]))
    assert bench(["l2"]) == 0
    assert len(bench.started) == 1 and bench.runs() == [entry("l2", 0)]


def test_a_failed_run_is_told_and_the_others_go_on(bench, capsys):
    bench.outcome = lambda name: None if name.endswith("0") else results(seed=1)
    assert bench(["finetune", "l2"], [0, 1]) == 1
    assert [(run["method"], run["seed"]) for run in bench.runs()] == [("finetune", 1), ("l2", 1)]
    assert "| finetune | 50.0 |" in bench.readme()
    assert "Failed: finetune,seed=0: no room" in capsys.readouterr().out


def test_what_a_signal_has_interrupted_is_not_lost(bench, capsys, monkeypatch):
    def run(self, trials, whole=mini.Processes.run):
        whole(self, trials[:1])
        raise Interrupted(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(mini.Processes, "run", run)
        assert bench(["finetune", "l2"]) == 143
    assert [run["method"] for run in bench.runs()] == ["finetune"] and "| finetune | 50.0 |" in bench.readme()
    assert "Run the same command again" in capsys.readouterr().out
    assert bench(["finetune", "l2"]) == 0 and bench.started == ["finetune,seed=0", "l2,seed=0"]


def test_a_run_without_complete_results_is_no_row(bench):
    bench.outcome = lambda name: results(complete=False)
    bench(["finetune"])
    assert bench.readme() == README


def test_the_committed_sweeps_are_those_of_the_committed_runs():
    for name, kept in (("mini_table", "mini"), ("mini_ablations", "ablations")):
        sweep = read_sweep(mini.ROOT / "conf" / "sweeps" / f"{name}.yaml")
        runs = json.loads((mini.ROOT / "benchmarks" / f"{kept}.json").read_text())
        trials = sweep.trials(sweep.points)
        assert mini.missing(runs, trials) == [] and len(runs) == len(trials)


@pytest.mark.parametrize("text", ["no markers", mini.START, f"{mini.END}\n{mini.START}", README + README])
def test_readme_without_its_markers_is_told_before_any_run(bench, capsys, text):
    (bench.path / "README.md").write_text(text)
    assert bench(["l2"]) == 2
    assert "once and in this order" in capsys.readouterr().out and not bench.started


def test_missing_readme_is_told_before_any_run(bench, capsys):
    (bench.path / "README.md").unlink()
    assert bench(["l2"]) == 2
    assert "README.md does not exist" in capsys.readouterr().out and not bench.started


@pytest.mark.parametrize("damage", ["{", "[[]]", '{"a": 1}', '[{"method": "l2"}]', "[" * 10_000])
def test_a_damaged_file_of_runs_is_told_and_kept(bench, capsys, damage):
    (bench.path / "mini.json").write_text(damage)
    assert bench(["l2"]) == 2
    assert "mini.json is " in " ".join(capsys.readouterr().out.split()) and not bench.started
    assert (bench.path / "mini.json").read_text() == damage


def test_runs_of_another_benchmark_are_not_mixed_in(bench, capsys):
    (bench.path / "mini.json").write_text(json.dumps([entry("finetune", 0) | {"protocol": "older tasks"}]))
    assert bench(["finetune"], [0, 1]) == 2
    assert "holds runs of another MiniMTIL" in " ".join(capsys.readouterr().out.split())
    assert bench.runs() == [entry("finetune", 0) | {"protocol": "older tasks"}]


def test_settings_of_the_trainer_that_decide_are_settings(tmp_path):
    seen = {}
    for trainer in ("{}", "{devices: 1}", "{devices: 4, log_every_n_steps: 5}", "{accumulate_grad_batches: 2}"):
        (tmp_path / "own.yaml").write_text(f"model: {{class_path: X}}\ntrainer: {trainer}\n")
        seen[trainer] = mini.settings_of(mini.Trial("", "", ("--config", str(tmp_path / "own.yaml"))))
    assert len({*seen.values()}) == 2
    assert list(seen.values()).count(seen["{accumulate_grad_batches: 2}"]) == 1


def test_keys_that_the_sweep_sets_are_settings_but_not_the_seed():
    config = ("--config", str(CONFIGS / "l2.yaml"))
    plain, seeded, other = (
        mini.settings_of(mini.Trial("", "", (*config, *flags)))
        for flags in ((), ("--seed_everything=3",), ("--data.steps=3", "--seed_everything=3"))
    )
    assert plain == seeded == settings_of("l2") != other


@pytest.mark.parametrize("grid", ["{method: {l2: l2.yaml}}", "{method: {l2: l2.yaml}, seed_everything: [0]}"])
def test_a_search_and_a_sweep_without_seeds_are_no_table(bench, capsys, grid):
    text = f"name: x\ngrid: {grid}\n" + ("search: {trials: 1, space: {data.steps: [1]}}" if "seed" in grid else "")
    (bench.path / "other.yaml").write_text(text)
    assert mini.main([str(bench.path / "other.yaml")]) == 2
    assert "is no table: give seed_everything in its grid" in " ".join(capsys.readouterr().out.split())
