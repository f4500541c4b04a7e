"""The benchmark's bookkeeping: what is run, what is kept, what is written. No training."""

import json
import sys

import pytest

from benchmarks import mini

README = f"# Title\n\nbefore\n\n{mini.START}\nold\n{mini.END}\n\nafter\n"


def results(last=70.0, **more):
    rows = [[80.0, 50.0], [60.0, last]]
    measured = {
        "metrics": {"transfer": 50.0, "avg": 65.0, "last": (60 + last) / 2},
        "cost": {"train_seconds": [1.0, 2.0]},
    }
    protocol = {"id": "of MiniMTIL"}
    return (
        {
            "method": "Finetune",
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


def entry(method, seed, **more):
    known = {"method": method, "seed": seed, "protocol": "of MiniMTIL", "settings": mini.settings_of(method)}
    return known | {key: results(**more)[key] for key in mini.KEYS}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """``bench(*arguments)`` runs ``main`` on the files of ``tmp_path``; ``bench.started`` are the commands it ran.

    ``bench.outcome(method, seed)`` says what such a run does: the exit status and the ``results.json`` it leaves.
    """
    (tmp_path / "README.md").write_text(README)

    def bench(*arguments):
        files = ["--out", tmp_path / "mini.json", "--readme", tmp_path / "README.md", "--root", tmp_path / "runs"]
        return mini.main([*arguments, *map(str, files)])

    def run(command, cwd, check):
        assert command[:4] == [sys.executable, "-m", "gift_lightning", "fit"] and cwd == mini.ROOT and not check
        options = dict(zip(command[4::2], command[5::2], strict=True))
        bench.started.append(options)
        method, seed = options["--run.name"].split("_seed")
        status, left = bench.outcome(method, int(seed))
        if left is not None:
            folder = tmp_path / "runs" / options["--run.name"]
            folder.mkdir(parents=True)
            (folder / "results.json").write_text(json.dumps(left))
        return type("Completed", (), {"returncode": status})

    monkeypatch.setattr(mini.subprocess, "run", run)
    bench.started, bench.outcome = [], lambda method, seed: (0, results())
    bench.runs = lambda: json.loads((tmp_path / "mini.json").read_text())
    bench.readme = lambda: (tmp_path / "README.md").read_text()
    bench.path = tmp_path
    return bench


def test_runs_what_is_missing_and_writes_file_and_table(bench):
    (bench.path / "mini.json").write_text(json.dumps([entry("l2", 0, last=90.0)]))
    assert bench("--methods", "l2", "finetune", "--seeds", "1", "0") == 0
    assert [options["--run.name"] for options in bench.started] == ["l2_seed1", "finetune_seed1", "finetune_seed0"]
    assert bench.started[0] == {
        "--config": str(mini.CONFIGS / "l2.yaml"),
        "--seed_everything": "1",
        "--run.root": str(bench.path / "runs"),
        "--run.name": "l2_seed1",
        "--ckpt_path": "last",
    }
    runs = bench.runs()
    assert [(run["method"], run["seed"]) for run in runs] == [("finetune", 0), ("finetune", 1), ("l2", 0), ("l2", 1)]
    assert runs[2] == entry("l2", 0, last=90.0) and runs[3] == entry("l2", 1)
    assert "\n| l2 | 50.0 ± 0.0 | 65.0 ± 0.0 | 70.0 ± 7.1 | 3 ± 0 | 2 |\n" in bench.readme()
    assert bench.readme().startswith(f"# Title\n\nbefore\n\n{mini.START}\n| Method |")
    assert bench.readme().endswith(f" |\n{mini.END}\n\nafter\n")


def test_second_call_runs_and_changes_nothing(bench):
    assert bench("--methods", "finetune", "finetune", "--seeds", "0") == 0
    before = (bench.path / "mini.json").read_bytes(), bench.readme()
    assert bench("--methods", "finetune", "--seeds", "0") == 0
    assert len(bench.started) == 1 and before == ((bench.path / "mini.json").read_bytes(), bench.readme())


def test_a_row_of_other_settings_is_made_anew(bench):
    (bench.path / "mini.json").write_text(json.dumps([entry("l2", 0, last=90.0) | {"settings": "older"}]))
    assert bench("--methods", "l2", "--seeds", "0") == 0
    assert len(bench.started) == 1 and bench.runs() == [entry("l2", 0)]


def test_a_failed_run_is_told_and_the_others_go_on(bench, capsys):
    bench.outcome = lambda method, seed: (1, None) if seed == 0 else (0, results())
    assert bench("--methods", "finetune", "l2", "--seeds", "0", "1") == 1
    assert [(run["method"], run["seed"]) for run in bench.runs()] == [("finetune", 1), ("l2", 1)]
    assert "| finetune | 50.0 |" in bench.readme()
    assert "Failed: finetune with seed 0 ended with status 1: its output is above." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("left", "told"),
    [(results(complete=False), "was stopped before its last task"), (None, "finetune with seed 0 left no results in")],
)
def test_a_run_that_ends_well_without_complete_results_has_failed(bench, capsys, left, told):
    bench.outcome = lambda method, seed: (0, left)
    assert bench("--methods", "finetune", "--seeds", "0") == 1
    assert told in " ".join(capsys.readouterr().out.split()) and bench.readme() == README


def test_unknown_method_names_the_available_ones(bench, capsys):
    assert bench("--methods", "l2", "fintune") == 2
    told = " ".join(capsys.readouterr().out.split())
    assert (
        "conf/mini/fintune.yaml does not exist (did you mean 'finetune'?): the methods are condu, condu_lora, " in told
    )
    assert bench("--methods", "l2+no_acw") == 2
    told = " ".join(capsys.readouterr().out.split())
    assert "conf/ablation/no_acw.yaml does not exist (did you mean 'no_awc'?): the overlays are " in told
    assert not bench.started


@pytest.mark.parametrize("text", ["no markers", mini.START, f"{mini.END}\n{mini.START}", README + README])
def test_readme_without_its_markers_is_told_before_any_run(bench, capsys, text):
    (bench.path / "README.md").write_text(text)
    assert bench("--methods", "l2") == 2
    assert "once and in this order" in capsys.readouterr().out and not bench.started


def test_missing_readme_is_told_before_any_run(bench, capsys):
    (bench.path / "README.md").unlink()
    assert bench("--methods", "l2") == 2
    assert "README.md does not exist" in capsys.readouterr().out and not bench.started


@pytest.mark.parametrize("damage", ["{", "[[]]", '{"a": 1}', '[{"method": "l2"}]', "[" * 10_000])
def test_a_damaged_file_of_runs_is_told_and_kept(bench, capsys, damage):
    (bench.path / "mini.json").write_text(damage)
    assert bench("--methods", "l2") == 2
    assert "mini.json is " in " ".join(capsys.readouterr().out.split()) and not bench.started
    assert (bench.path / "mini.json").read_text() == damage


def test_runs_of_another_benchmark_are_not_mixed_in(bench, capsys):
    (bench.path / "mini.json").write_text(json.dumps([entry("finetune", 0) | {"protocol": "older tasks"}]))
    assert bench("--methods", "finetune", "--seeds", "0", "1") == 2
    assert "holds runs of another MiniMTIL" in " ".join(capsys.readouterr().out.split())
    assert bench.runs() == [entry("finetune", 0) | {"protocol": "older tasks"}]


def test_settings_of_the_trainer_that_decide_are_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(mini, "CONFIGS", tmp_path)
    seen = {}
    for trainer in ("{}", "{devices: 1}", "{devices: 4, log_every_n_steps: 5}", "{accumulate_grad_batches: 2}"):
        (tmp_path / "own.yaml").write_text(f"model: {{class_path: X}}\ntrainer: {trainer}\n")
        seen[trainer] = mini.settings_of("own")
    assert len({*seen.values()}) == 2
    assert list(seen.values()).count(seen["{accumulate_grad_batches: 2}"]) == 1
