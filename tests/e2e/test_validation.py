"""Validation images take no part in learning, and test images none in what validation says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.e2e.conftest import call, kill_at, read_results, run_command, run_on_ranks
from tests.e2e.replaced import SEED, SHARE
from tests.e2e.test_methods import command_of
from tests.e2e.test_ranks import FLOAT64


def command(method: str, folder: Path, black: str | None = None) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    kinds = ("SomeFlags", "SomeShapes")
    tasks = [{"class_path": f"tests.e2e.replaced.{kind}", "init_args": {"black": black}} for kind in kinds]
    flags = ["--seed_everything", str(SEED), "--data.validation_share", str(SHARE), "--run.root", str(folder)]
    return [*command_of(method, folder), *flags, "--data.tasks", json.dumps(tasks), "--model.lr", "1e-3"]


def fitted(method: str, folder: Path, black: str | None = None) -> dict[str, Any]:
    status, _, err = call(*command(method, folder, black))
    assert status == 0, err
    return read_results(folder / "run")


def kept(run: Path) -> dict[str, Tensor]:
    """All that a run keeps between tasks, by file and name."""
    files = sorted((run / "checkpoints").glob("*.safetensors"))
    return {f"{file.name} {name}": tensor for file in files for name, tensor in load_file(file).items()}


# steps; memory of exemplars; the task as its own replay; Fisher at the boundary; prototypes; routers and auto-encoders
METHODS = ["Finetune", "ICaRL", "LwF", "GIFTAblation, boundary", "ConDU, low rank", "MoEAdapter"]


@pytest.mark.parametrize("method", METHODS)
def test_no_method_learns_from_validation_images(method: str, tmp_path: Path) -> None:
    whole, black = fitted(method, tmp_path / "whole"), fitted(method, tmp_path / "black", "held out")
    assert black["R"] == whole["R"] and black["zero_shot"] == whole["zero_shot"]
    ours, theirs = kept(tmp_path / "black" / "run"), kept(tmp_path / "whole" / "run")
    assert theirs and ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert black["validation"]["zero_shot"] != whole["validation"]["zero_shot"]
    assert whole["validation"]["sizes"] == [27, 24] and whole["train_sizes"] == [63, 56]


def test_validation_knows_no_test_image(tmp_path: Path) -> None:
    whole, black = fitted("Finetune", tmp_path / "whole"), fitted("Finetune", tmp_path / "black", "test")
    assert black["validation"] == whole["validation"] and black["R"] != whole["R"]
    logged = [(tmp_path / name / "run" / "metrics.csv").read_text().splitlines() for name in ("whole", "black")]
    rows = [[dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]] for lines in logged]
    kept = [
        [{key: row[key] for key in row if not key.startswith("cl/") or "/val/" in key} for row in each] for each in rows
    ]
    assert kept[0] == kept[1] and any(row["cl/val/last"] for row in rows[0])


def test_a_killed_run_and_two_ranks_have_the_same_validation(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    whole = [*command("Finetune", tmp_path / "whole"), *FLOAT64]
    assert run_command(whole, log) == 0, log.read_text()
    killed = [*command("Finetune", tmp_path / "killed"), *FLOAT64]
    assert run_command([*killed, *kill_at("evaluate", 2)], log) == -9, log.read_text()
    assert run_command([*killed, "--ckpt_path", "last"], log) == 0, log.read_text()
    assert run_on_ranks(2, [*command("Finetune", tmp_path / "ranks"), *FLOAT64], log) == 0, log.read_text()
    found = [read_results(tmp_path / name / "run") for name in ("whole", "killed", "ranks")]
    assert found[0]["validation"] == found[1]["validation"] == found[2]["validation"]
    assert len(found[0]["validation"]["R"]) == 2 and found[0]["R"] == found[1]["R"] == found[2]["R"]


def test_the_terminal_shows_validation_apart(tmp_path: Path) -> None:
    _, out, _ = call(*command("Finetune", tmp_path))
    last = read_results(tmp_path / "run")["validation"]["metrics"]["last"]
    lines = [line for line in out.splitlines() if line.startswith("On validation images: Transfer ")]
    assert len(lines) == 2 and f"Last {last:.1f}" in lines[-1]
