"""Every method from the command line: killed at any moment, on any number of ranks, it is the same run."""

from pathlib import Path

import pytest
import torch

from gift_lightning import methods
from tests.e2e.conftest import CONFIG, Fit, final_weights, kill_at, read_results, run_command, run_on_ranks
from tests.e2e.test_ranks import FLOAT64, largest_difference

METHODS = {
    "ConDU": "{task_id: unknown, experts: 2}",
    "Finetune": "{restart: true}",
    "L2": "{l2: 0.5}",
    "GIFT": "{teacher: wise, consolidation_weight: 0.5}",
    "ZSCL": "{average_every: 3, l2: 0.5, image_image_weight: 0.5, feature_weight: 1.0}",
    "LwF": "{}",
    "LwFVR": "{texts: 7}",
    "ICaRL": "{}",
    "WiSEFT": "{alpha: 0.7}",
    "WeightAveraging": "{average: last, every: 2, pull: 0.2}",
}
REPLAY = {
    "GIFT": "SyntheticReplay, init_args: {folder: '${run.root}/replay', images_per_task: 20, batch_size: 8,"
    " initial_prompts: ['a photo of a star.', 'a photo of a house.'], generator: {class_path:"
    " datamodules.mini.OracleGenerator}}",
    "ZSCL": "mini.GeneralReference, init_args: {size: 21, batch_size: 8}",
    "LwF": "CurrentTask, init_args: {batch_size: 8}",
    "LwFVR": "CurrentTask, init_args: {batch_size: 8}",
    "ICaRL": "ExemplarMemory, init_args: {size: 9, batch_size: 4}",
}


@pytest.fixture
def overlay(method: str, tmp_path: Path) -> list[str]:
    """Flags that make the run of three small tasks one with the method."""
    text = f"""
run: {{name: run}}
model:
  class_path: gift_lightning.methods.{method}
  init_args: {METHODS[method]}
"""
    if method in REPLAY:
        text += f"data: {{replay: {{class_path: datamodules.{REPLAY[method]}}}}}\n"
    path = tmp_path / "overlay.yaml"
    path.write_text(text)
    return ["--config", str(path)]


def test_every_method_is_tried_here() -> None:
    learning = [name for name in methods.__all__ if name != "ContinualCLIP" and getattr(methods, name).learns]
    assert sorted(METHODS) == sorted(learning)


@pytest.mark.parametrize("method", METHODS)
def test_killed_run_resumes_bit_identical(overlay: list[str], fit: Fit, tmp_path: Path) -> None:
    def told() -> str:
        return (tmp_path / "log.txt").read_text()

    assert fit(*overlay, "--run.name", "whole") == 0, told()
    assert fit(*overlay, *kill_at("step", 11)) == -9, told()
    assert fit(*overlay, "--ckpt_path", "last", *kill_at("evaluate", 4)) == -9, told()
    assert fit(*overlay, "--ckpt_path", "last") == 0, told()
    ours, theirs = tmp_path / "run", tmp_path / "whole"
    assert read_results(ours)["R"] == read_results(theirs)["R"]
    assert (ours / "metrics.csv").read_text() == (theirs / "metrics.csv").read_text()
    mine, other = final_weights(ours), final_weights(theirs)
    assert all(torch.equal(mine[name], other[name]) for name in other)


@pytest.mark.parametrize("method", METHODS)
def test_two_ranks_equal_one_process(overlay: list[str], tmp_path: Path) -> None:
    command = ["fit", "--config", CONFIG, *overlay, *FLOAT64, "--run.root"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_command([*command, str(one)], tmp_path / "log.txt") == 0, (tmp_path / "log.txt").read_text()
    assert run_on_ranks(2, [*command, str(two)], tmp_path / "log.txt") == 0, (tmp_path / "log.txt").read_text()
    assert read_results(two / "run")["R"] == read_results(one / "run")["R"]
    assert largest_difference(two / "run", one / "run") < 1e-9
