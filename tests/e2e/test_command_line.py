"""The commands a user types: what they print, what they refuse, what they leave."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from gift_lightning.__main__ import PLAIN
from gift_lightning.commands.cli import AHEAD, SequenceCLI
from gift_lightning.commands.overview import COMMANDS
from gift_lightning.errors import InputError
from tests.e2e.conftest import CONFIG, call, final_weights, fit_here, read_results, run_on_ranks

ROOT = Path(__file__).parents[2]
OVERLAYS = sorted(path for folder in ("trainer", "logger") for path in (ROOT / "conf" / folder).glob("*.yaml"))
ABLATIONS = sorted((ROOT / "conf" / "ablation").glob("*.yaml"))


# --- which command ----------------------------------------------------------------------------------------------------


def test_every_command_is_in_the_table() -> None:
    assert list(COMMANDS) == [*SequenceCLI.subcommands(), *AHEAD, *PLAIN]


def test_help_lists_every_command_with_its_description() -> None:
    status, out, err = call("--help")
    assert (status, err) == (0, "")
    words = " ".join(out.split())
    assert "every key is also a flag" in words and "usage: python -m gift_lightning COMMAND --config FILE" in words
    for name, description in COMMANDS.items():
        assert f" {name} {description}" in words
    assert call("-h") == call("--help", "fit") == call("--debug", "--help") == (0, out, "")


def test_help_a_table_of_runs_and_a_wrong_command_wait_for_no_large_import(tmp_path: Path) -> None:
    """Nor does the page of one run wait for PyTorch: a run writes it while it goes on."""
    script = (
        "import sys; from gift_lightning.__main__ import main;"
        "status = [main(['fti']), main(['report', sys.argv[1]]), main(['--help'])]\n"
        "try: main(['export', '--help'])\nexcept SystemExit as end: status.append(end.code)\n"
        "large = {'torch', 'lightning', 'matplotlib', 'altair', 'scipy'}\n"
        "assert status == [2, 0, 0, 0] and not sys.modules.keys() & large\n"
        "assert main(['report', sys.argv[1], '--out', sys.argv[2]]) == 0 and 'torch' not in sys.modules"
    )
    run = str(ROOT / "tests" / "earlier" / "runs" / "gift")
    command = [sys.executable, "-c", script, run, str(tmp_path / "report.html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_debug_may_stand_before_or_behind_any_command(tmp_path: Path) -> None:
    run = str(ROOT / "tests" / "earlier" / "runs" / "gift")
    plain = call("report", run)
    assert plain[0] == 0
    assert plain == call("--debug", "report", run) == call("report", run, "--debug")
    with pytest.raises(InputError, match="holds no run"):
        call("--debug", "report", str(tmp_path))
    with pytest.raises(InputError, match="holds no run"):
        call("export", "--run", str(tmp_path), "--out", str(tmp_path / "m.pth"), "--debug")


# --- reading configs --------------------------------------------------------------------------------------------------


def printed_config(*argv: str) -> dict:
    status, out, err = call(*argv, "--print_config")
    assert status == 0, err
    return yaml.safe_load(out)


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_overlays_change_only_the_trainer(path: Path) -> None:
    plain = printed_config("fit", "--config", CONFIG)
    changed = printed_config("fit", "--config", CONFIG, "--config", str(path))
    assert plain.pop("trainer") != changed.pop("trainer")
    assert plain == changed


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_every_ablation_changes_the_method_or_what_it_replays(path: Path) -> None:
    gift = str(ROOT / "conf" / "mini" / "gift.yaml")
    plain = printed_config("fit", "--config", gift)
    changed = printed_config("fit", "--config", gift, "--config", str(path))
    in_method = plain.pop("model") != changed.pop("model")
    ours, other = plain["data"].pop("replay")["init_args"], changed["data"].pop("replay")["init_args"]
    assert plain == changed
    # other images need a folder of their own; the same images are shared
    assert in_method == (ours == other) == (ours["folder"] == other["folder"])


def test_interpolation_stays_right_across_files_and_flags(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("run: {name: first}\nmodel: {init_args: {clip: {pretrained: '${run.root}/${run.name}.pt'}}}\n")
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("run: {name: second}\n")

    def pretrained(*argv: str) -> str:
        return printed_config("fit", "--config", CONFIG, "--config", str(base), *argv)["model"]["init_args"]["clip"][
            "pretrained"
        ]

    assert pretrained() == "runs/first.pt"
    assert pretrained("--config", str(overlay)) == "runs/second.pt"
    assert pretrained("--config", str(overlay), "--run.root", "elsewhere") == "elsewhere/second.pt"


@pytest.mark.parametrize("command", ["fit", "test"])
def test_help_explains_the_options(command: str) -> None:
    status, out, _ = call(command, "--help")
    assert status == 0
    assert "images in one optimiser step, over all devices" in " ".join(out.split())
    assert len(out.split("options:")[0].splitlines()) < 6


# --- what a run leaves ------------------------------------------------------------------------------------------------


def test_run_folder(reference: Path) -> None:
    files = {str(path.relative_to(reference)) for path in reference.rglob("*") if path.is_file()}
    assert files == {
        "config.yaml",
        "environment.json",
        "results.json",
        "accuracy_matrix.csv",
        "accuracy_matrix.png",
        "metrics.csv",
        *(f"checkpoints/{name}" for name in ("last.ckpt", *(f"task0{t}.safetensors" for t in (1, 2, 3)))),
    }


def test_results_file(reference: Path) -> None:
    results = read_results(reference)
    assert results["schema"] == 1
    assert (results["method"], results["seed"], results["complete"]) == ("L2", 3, True)
    assert results["tasks"] == ["Flags", "Shapes", "Counting"]
    assert len(results["zero_shot"]) == 3
    assert min(results["zero_shot"]) > 40  # a CLIP that knows something: equal rows then mean more than equal zeros
    assert [len(row) for row in results["R"]] == [3, 3, 3]
    sizes = [43, 31, 25]
    for row in [results["zero_shot"], *results["R"]]:
        for accuracy, size in zip(row, sizes, strict=True):
            assert accuracy * size / 100 == pytest.approx(round(accuracy * size / 100), abs=1e-9)
    assert set(results["metrics"]) == {"transfer", "avg", "last", "forgetting", "backward_transfer"}
    assert set(results["protocol"]["fingerprints"]) == set(results["tasks"])
    cost = results["cost"]
    assert len(cost["train_seconds"]) == len(cost["evaluate_seconds"]) == 3
    assert cost["frozen_parameters"] > cost["trainable_parameters"] > 1e6
    assert cost["stored_parameters"] == 0  # the anchor is made anew in each task
    assert cost["peak_memory_bytes"] > 1e6


def test_saved_config_repeats_the_run(reference: Path, tmp_path: Path) -> None:
    config = str(reference / "config.yaml")
    assert call("fit", "--config", config, "--run.root", str(tmp_path))[0] == 0
    assert read_results(tmp_path / "three_tasks")["R"] == read_results(reference)["R"]


def test_fast_dev_run_leaves_nothing(tmp_path: Path) -> None:
    status, out, err = fit_here(tmp_path, "--trainer.fast_dev_run", "true", "--trainer.enable_progress_bar", "false")
    assert status == 0, err
    assert "Flags" in out
    assert not list(tmp_path.iterdir())


# --- running again ----------------------------------------------------------------------------------------------------


def test_finished_run_is_shown_not_repeated(reference: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in reference.rglob("*")}
    for flags in ([], ["--ckpt_path", "last"]):
        status, out, err = fit_here(reference.parent, *flags)
        assert status == 0, err
        assert "Transfer" in out
        assert str(reference.name) in out
    assert {path: path.stat().st_mtime_ns for path in reference.rglob("*")} == before


def test_finished_run_with_other_settings_is_refused(reference: Path) -> None:
    status, _, err = fit_here(reference.parent, "--model.l2", "0.5")
    assert status == 2
    assert "holds a run with another model.init_args.l2 (0.1 there, 0.5 here)" in err


def test_finished_run_with_other_weights_is_refused(reference: Path, tmp_path: Path) -> None:
    moved = tmp_path / "three_tasks"
    moved.mkdir()
    (moved / "config.yaml").write_bytes((reference / "config.yaml").read_bytes())
    results = read_results(reference)
    results["protocol"]["id"] = "0" * 64
    (moved / "results.json").write_text(json.dumps(results))
    status, _, err = fit_here(tmp_path)
    assert status == 2
    assert "another protocol" in err


def test_unfinished_run_is_not_overwritten(reference: Path, tmp_path: Path) -> None:
    folder = tmp_path / "three_tasks"
    folder.mkdir()
    results = {**read_results(reference), "complete": False}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.yaml").write_bytes((reference / "config.yaml").read_bytes())
    status, _, err = fit_here(tmp_path)
    assert status == 2
    assert "holds an unfinished run: continue it with --ckpt_path last" in err
    status, _, err = fit_here(tmp_path, "--ckpt_path", "last", "--model.l2", "50")
    assert status == 2
    assert "holds a run with another model.init_args.l2 (0.1 there, 50.0 here)" in err
    status, _, err = fit_here(tmp_path, "--ckpt_path", "last")
    assert status == 2
    assert "last.ckpt is missing: restore it" in err
    assert read_results(folder) == results


def test_a_run_whose_results_are_gone_is_not_overwritten(reference: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "three_tasks" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes((reference / "checkpoints" / "last.ckpt").read_bytes())
    status, _, err = fit_here(tmp_path)
    assert status == 2
    assert "holds an unfinished run: continue it with --ckpt_path last" in err
    assert fit_here(tmp_path, "--ckpt_path", "last")[0] == 0
    assert read_results(checkpoint.parents[1])["R"] == read_results(reference)["R"]


# --- test -------------------------------------------------------------------------------------------------------------


def accuracies(table: str) -> list[float]:
    found = re.findall(r"^ *\S+ +(\d+\.\d\d) *$", table, re.MULTILINE)
    return [float(number) for number in found]


@pytest.mark.parametrize("weights", ["last", "checkpoints/last.ckpt", "checkpoints/task03.safetensors", "plain.pt"])
def test_command_test_gives_the_last_row(weights: str, reference: Path, tmp_path: Path) -> None:
    path = weights if weights == "last" else str(reference / weights)
    if weights == "plain.pt":
        path = str(tmp_path / weights)
        torch.save(final_weights(reference), path)
    flags = ["--run.root", str(reference.parent), "--model", "gift_lightning.methods.ZeroShot"]
    status, out, err = call("test", "--config", CONFIG, *flags, "--ckpt_path", path)
    assert status == 0, err
    row = read_results(reference)["R"][-1]
    assert accuracies(out) == pytest.approx([*row, sum(row) / 3], abs=0.006)


def test_command_test_on_two_ranks_counts_every_image_once(reference: Path, tmp_path: Path) -> None:
    path = reference / "checkpoints" / "task02.safetensors"
    log = tmp_path / "log.txt"
    assert run_on_ranks(2, ["test", "--config", CONFIG, "--ckpt_path", str(path)], log) == 0, log.read_text()
    row = read_results(reference)["R"][1]
    assert accuracies(log.read_text()) == pytest.approx([*row, sum(row) / 3], abs=0.006)
