"""Runs that version 0.1.0 left before its modules moved into rooms (``tests/earlier``): they load, and go on."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import gift_lightning
from datamodules.mini import Flags
from gift_lightning.methods.parts.earlier_adapters import stacked
from gift_lightning.records.run_folder import RunFolder
from tests.e2e.conftest import call, read_results

EARLIER = Path(__file__).parents[1] / "earlier"
RUNS = EARLIER / "runs"


@pytest.mark.parametrize("name", ["gift", "condu", "moeadapter", "zeroshot"])
def test_a_finished_run_loads_and_predicts_as_it_did(name: str) -> None:
    task = Flags(4, 8)
    task.setup()
    images = [task.test_set[index][0] for index in range(8)]
    probabilities = gift_lightning.load(RUNS / name).predict(images, task.class_names[:5])
    torch.testing.assert_close(probabilities, load_file(RUNS / "predictions.safetensors")[name])


@pytest.mark.parametrize("name", ["gift", "zeroshot"])
def test_a_finished_run_is_shown_by_the_same_command(name: str, tmp_path: Path) -> None:
    shutil.copytree(RUNS / name, tmp_path / name)
    other = ["--model", "gift_lightning.methods.ZeroShot", "--data.replay", "null"] if name == "zeroshot" else []
    flags = ["--run.root", str(tmp_path), "--run.name", name, "--model.clip.name", "package:tests.earlier.clip"]
    flags += ["--model.lr", "1e-2", "--model.warmup_steps", "2"]
    status, out, err = call("fit", "--config", str(EARLIER / "gift.yaml"), *other, *flags)
    assert status == 0, err
    assert "This run is complete" in out and "notes" not in err


@pytest.mark.parametrize("name", ["moeadapter", "condu"])
def test_a_finished_run_is_shown_by_its_own_config(name: str, tmp_path: Path) -> None:
    shutil.copytree(RUNS / name, tmp_path / name)
    status, out, err = call("fit", "--config", str(RUNS / name / "config.yaml"), "--run.root", str(tmp_path))
    assert status == 0, err
    assert "This run is complete" in out


def test_they_stand_side_by_side(tmp_path: Path) -> None:
    status, out, err = call("report", str(RUNS / "gift"), str(RUNS / "condu"), str(RUNS / "moeadapter"))
    assert status == 0, err
    assert "GIFT" in out and "ConDU" in out and "MoEAdapter" in out


@pytest.mark.parametrize("name", ["gift", "icarl"])
def test_an_unfinished_run_goes_on_to_the_end_that_it_would_have_had(name: str, tmp_path: Path) -> None:
    """iCaRL with few training images of each class, class-incremental, with a memory and bad images to be skipped."""
    shutil.copytree(RUNS / f"unfinished_{name}", tmp_path / "unfinished")
    command = ["fit", "--config", str(EARLIER / f"{name}.yaml"), "--run.root", str(tmp_path), "--run.name=unfinished"]
    status, out, err = call(*command, "--ckpt_path", "last", "--trainer.enable_progress_bar", "false")
    assert status == 0, out + err
    ours, theirs = read_results(tmp_path / "unfinished"), RunFolder.at(RUNS / name).read_results()
    assert theirs is not None
    for key in ("complete", "learns", "protocol", "zero_shot", "R", "metrics"):
        assert ours[key] == theirs[key], key
    weights = [load_file(run / "checkpoints" / "task02.safetensors") for run in (tmp_path / "unfinished", RUNS / name)]
    config = (tmp_path / "unfinished" / "config.yaml").read_text()
    assert ("class_path: datamodules.DiffusionGenerator" in config) == (name == "gift")
    assert "gift_lightning.generation" not in config
    for of_run in weights:  # no loss depends on a key bias: it is the rounding noise of a CPU and of its kernels
        for name, weight in of_run.items():
            if name.endswith("attn.in_proj_bias"):
                weight.chunk(3)[1].zero_()
    # another CPU rounds otherwise
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["unfinished_moeadapter", "unfinished_moeadapter_stacks"])
def test_an_unfinished_run_of_moe_adapters_goes_on(name: str, tmp_path: Path) -> None:
    """Weights, moments and step counts of single experts become those of stacks, of the task's router its own."""
    shutil.copytree(RUNS / name, tmp_path / "unfinished")
    settings = yaml.safe_load((RUNS / "moeadapter" / "config.yaml").read_text())["model"]
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump({"model": settings, "data": {"replay": None}}))
    command = ["fit", "--config", str(EARLIER / "gift.yaml"), "--config", str(tmp_path / "overlay.yaml")]
    command += ["--run.root", str(tmp_path), "--run.name", "unfinished", "--ckpt_path", "last"]
    status, out, err = call(*command, "--trainer.enable_progress_bar", "false")
    assert status == 0, out + err
    ours, theirs = read_results(tmp_path / "unfinished"), RunFolder.at(RUNS / "moeadapter").read_results()
    assert theirs is not None
    for key in ("complete", "learns", "protocol", "zero_shot", "R", "metrics"):
        assert ours[key] == theirs[key], key
    counts = ("trainable_parameters", "stored_parameters")
    assert [ours["cost"][count] for count in counts] == [theirs["cost"][count] for count in counts]
    ends = [
        load_file(run / "checkpoints" / "knowledge.safetensors")
        for run in (tmp_path / "unfinished", RUNS / "moeadapter")
    ]
    torch.testing.assert_close(ends[0], stacked(ends[1]), rtol=1e-3, atol=1e-4)  # another CPU rounds otherwise


def test_what_it_began_with_says_the_same_by_its_old_names(tmp_path: Path) -> None:
    config = (RUNS / "unfinished_gift" / "config.yaml").read_text()
    assert "gift_lightning.generation.DiffusionGenerator" in config
    assert "gift_lightning.wandb_logger.SequenceWandbLogger" in config
    file = tmp_path / "config.yaml"
    file.write_text(config.replace("/tmp/fx", str(tmp_path)))
    status, out, err = call("doctor", "--config", str(file))
    assert status == 0, out + err


def test_few_training_images_are_told_from_what_was_written_then() -> None:
    results = RunFolder.at(RUNS / "icarl").read_results()
    assert results is not None
    assert results["protocol"]["shots"] == {"Textures_1": 3, "Textures_2": 3}
