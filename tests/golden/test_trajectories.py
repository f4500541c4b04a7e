"""Whole training runs against the numbers of the authors' code, through the real module and Trainer."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from datamodules import Task, TaskSequence
from datamodules.stream import StepBatches, StepLoader
from gift_lightning.methods import GIFT
from tests.golden.golden import GoldenMemory, assert_probes, golden_trainer, numbers, settings, trajectory_names
from tests.golden.runs import Run, build

PARTS = {
    "task": "ce_loss",
    "image_distillation": "image_distill_loss",
    "text_distillation": "text_distill_loss",
    "image_alignment": "image_ita_loss",
    "text_alignment": "text_ita_loss",
    "consolidation": "wc_loss",
}
"""What the golden files call a part of the loss, as it enters the sum."""

RAW = {
    "image_distillation": "image_distill_raw",
    "text_distillation": "text_distill_raw",
    "image_image_distillation": "image_image_distill_raw",
}
"""What they call it without its weight."""


class GoldenSequence(TaskSequence):
    """Tasks whose memory is begun anew at its end."""

    def _loader(self, task: int, samples: Any, batch_size: int, key: tuple[int | str, ...]) -> StepLoader:
        if key[1] == "task" or not isinstance(self.replay, GoldenMemory):
            return super()._loader(task, samples, batch_size, key)
        batches = RestartingBatches(samples, batch_size, self.steps(task), key, False, self._split())
        return StepLoader(task, samples, batches)


class RestartingBatches(StepBatches):
    """Batches in order; what is left at the end of the set is a smaller one."""

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        size = len(self.samples)
        per_round = -(-size // self.batch_size)
        for step in range(len(self)):
            first = step % per_round * self.batch_size
            yield [(index, index) for index in range(first, min(first + self.batch_size, size))]


class Recorder(Callback):
    """Keeps what the golden files hold of the last task: each step's rate and losses, the first gradients, the weights
    and averages after step 0, the weights after the last step, and the Fisher importances of the first two steps.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.gradients: dict[str, Tensor] = {}
        self.fisher: dict[str, dict[str, Tensor]] = {}
        self.weights: dict[str, dict[str, Tensor]] = {}
        self.lr = 0.0

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.steps = []

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.lr = optimizer.param_groups[0]["lr"]

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if len(self.steps) == 1:  # whatever changes weights after a step has done so
            self.weights["weights_after_step0"] = copied(module.clip.model)
            if getattr(module, "average", None) is not None:
                self.weights["averaged_after_step0"] = copied(module.average.module.model)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.steps:
            parameters = module.clip.model.named_parameters()
            self.gradients = {name: p.grad.clone() for name, p in parameters if p.grad is not None}
        if isinstance(module, GIFT) and module.consolidation == "adaptive" and len(self.steps) < 2:
            names = [name for name, p in module.clip.model.named_parameters() if p.requires_grad]
            self.fisher[f"fisher_step{len(self.steps)}"] = dict(zip(names, module.importance(), strict=True))
        self.weights["weights_last_iterate"] = copied(module.clip.model)
        self.steps.append({"lr": self.lr, **{name: part.item() for name, part in module.loss_parts.items()}})


def copied(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def fit(name: str, precision: str, cut_text: bool = False) -> tuple[Run, Recorder]:
    dtype = torch.float64 if precision == "64-true" else torch.float32
    run = build(name, dtype, cut_text)
    recorder = Recorder()
    trainer = golden_trainer(precision, len(run.tasks), recorder)
    tasks: list[Task] = [*run.tasks]
    sequence = GoldenSequence(tasks, batch_size=8, steps=run.steps, shuffle=False, replay=run.replay)
    trainer.fit(run.method, sequence)
    assert len(recorder.steps) == run.steps
    return run, recorder


def assert_losses(name: str, run: Run, recorder: Recorder, key: str, tolerance: float) -> None:
    expected = numbers(f"trajectories/{name}.json")[key]
    for step, ours in enumerate(recorder.steps):
        theirs = expected[step]
        parts = {part: value for part, value in ours.items() if part != "lr"}
        compared = {"lr": ours["lr"], "loss": sum(parts.values())}
        compared |= {theirs_: ours[part] for part, theirs_ in PARTS.items() if part in ours}
        compared |= {raw: ours[part] / run.scale for part, raw in RAW.items() if part in ours}
        if "l2" in ours:
            compared["l2_loss"] = compared["l2_raw"] = ours["l2"] / settings(name)["l2"]
        for part, value in compared.items():
            if part in theirs:
                assert value == pytest.approx(theirs[part], abs=tolerance), f"step {step}: {part}"


@pytest.mark.parametrize("name", trajectory_names())
def test_float64_run(name: str) -> None:
    run, recorder = fit(name, "64-true")
    stored = numbers(f"trajectories/{name}.safetensors")
    assert_losses(name, run, recorder, "steps_float64", 1e-6)
    frozen = {"logit_scale": torch.tensor(float("nan"))}
    assert_probes({**recorder.gradients, **frozen}, stored, "grad_step0", 1e-9)
    for step, importances in recorder.fisher.items():
        assert_probes({**importances, **frozen}, stored, step, 1e-9)
    for moment, weights in recorder.weights.items():
        if f"{moment}/probe64" in stored:
            assert_probes(weights, stored, moment, 1e-9)
    assert_probes(run.method.clip.model.state_dict(), stored, "final", 1e-9)


@pytest.mark.parametrize("name", trajectory_names())
def test_float32_run(name: str) -> None:
    if name == "gift_distill_only_load_last":
        pytest.skip("its true gradients start at 0 and Adam walks on rounding noise: only float64 has numbers")
    if "steps_float32" not in numbers(f"trajectories/{name}.json"):
        pytest.skip("made in float64 only")
    run, recorder = fit(name, "32-true")
    assert_losses(name, run, recorder, "steps_float32", 1e-4)
    assert_probes(run.method.clip.model.state_dict(), numbers(f"trajectories/{name}.safetensors"), "final", 1e-4)


def test_cut_text_trains_the_same_weights() -> None:
    name = "finetune" if "finetune" in trajectory_names() else pytest.skip("no run named finetune")
    run, recorder = fit(name, "64-true", cut_text=True)
    assert_losses(name, run, recorder, "steps_float64", 1e-6)
    assert_probes(run.method.clip.model.state_dict(), numbers(f"trajectories/{name}.safetensors"), "final", 1e-9)


METHODS = {
    "Finetune": ["finetune", "finetune_B", "finetune_R", "finetune_epochs", "finetune_load", "finetune_wd"],
    "L2": ["l2", "l2_load"],
    "WeightAveraging": ["we_finetune", "we_wise_load", "moving_avg_n_load", "moving_avg_t_load"],
    "WiSEFT": ["wise_merge_last_load", "wise_merge_zeroshot_load"],
    "LwF": ["lwf", "lwf_load", "cil_lwf_task0", "cil_lwf_task1"],
    "LwFVR": ["lwf_vr_load"],
    "ICaRL": ["icarl_load", "icarl_zeroshot_teacher_load"],
}


def test_every_run_is_compared_with_its_method() -> None:
    if "GOLDEN_DIR" in os.environ:
        pytest.skip("GOLDEN_DIR names another set, which may hold other runs")
    expected = {name: method for method, names in METHODS.items() for name in names}
    for name in trajectory_names():
        method = "GIFT" if name.startswith("gift_") else expected.get(name, "ZSCL")
        assert type(build(name, torch.float64).method).__name__ == method, name
    assert len(trajectory_names()) == 42  # all but static_awc, a slip of the authors' code
