"""Whole training runs against the numbers of the authors' code, through the real module and Trainer."""

import os
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch import Callback
from torch import Tensor

from callbacks import AccuracyMatrix, TaskBoundary
from datamodules import TaskSequence
from gift_lightning.methods import GIFT, ContinualCLIP
from tests.golden.golden import GoldenReplay, assert_probes, build, numbers, settings, trajectory_names

GIFT_PARTS = {
    "image_distillation": "image_distill_loss",
    "text_distillation": "text_distill_loss",
    "image_alignment": "image_ita_loss",
    "text_alignment": "text_ita_loss",
    "consolidation": "wc_loss",
}


class Recorder(Callback):
    """Keeps what the golden files hold: each step's rate and losses, the first gradients, the weights after step 0, and
    the Fisher importances of the first two steps.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.gradients: dict[str, Tensor] = {}
        self.fisher: dict[str, dict[str, Tensor]] = {}
        self.weights_after_step0: dict[str, Tensor] = {}
        self.lr = 0.0

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.lr = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.steps:
            parameters = module.clip.model.named_parameters()
            self.gradients = {name: p.grad.clone() for name, p in parameters if p.grad is not None}
            self.weights_after_step0 = {name: w.clone() for name, w in module.clip.model.state_dict().items()}
        if isinstance(module, GIFT) and module.consolidation == "adaptive" and len(self.steps) < 2:
            names = [name for name, p in module.clip.model.named_parameters() if p.requires_grad]
            self.fisher[f"fisher_step{len(self.steps)}"] = dict(zip(names, module.importance(), strict=True))
        self.steps.append({"lr": self.lr, **{name: part.item() for name, part in module.loss_parts.items()}})


def run(name: str, precision: str, cut_text: bool = False) -> tuple[ContinualCLIP, Recorder]:
    dtype = torch.float64 if precision == "64-true" else torch.float32
    method, task = build(name, dtype, cut_text)
    # the authors' loop makes one step more than it is asked for, the last at rate 0
    steps = numbers(f"trajectories/{name}.json")["n_optimizer_steps"] - 1
    recorder = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        precision=precision,  # type: ignore[arg-type]
        max_epochs=1,
        callbacks=[TaskBoundary(), AccuracyMatrix(), recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    replay = GoldenReplay() if method.replays else None
    sequence = TaskSequence([task], batch_size=task.batch_size, steps=steps, shuffle=False, replay=replay)
    trainer.fit(method, sequence)
    assert len(recorder.steps) == steps
    return method, recorder


def assert_losses(name: str, recorder: Recorder, key: str, tolerance: float) -> None:
    expected = numbers(f"trajectories/{name}.json")[key]
    for step, ours in enumerate(recorder.steps):
        theirs = expected[step]
        parts = {part: value for part, value in ours.items() if part != "lr"}
        compared = {"lr": ours["lr"], "loss": sum(parts.values()), "ce_loss": ours["task"]}
        if "l2" in ours:
            compared["l2_loss"] = ours["l2"] / settings(name)["l2"]
        compared |= {theirs: ours[part] for part, theirs in GIFT_PARTS.items() if part in ours}
        for part, value in compared.items():
            if part in theirs:
                assert value == pytest.approx(theirs[part], abs=tolerance), f"step {step}: {part}"


@pytest.mark.parametrize("name", trajectory_names())
def test_float64_run(name: str) -> None:
    method, recorder = run(name, "64-true")
    stored = numbers(f"trajectories/{name}.safetensors")
    assert_losses(name, recorder, "steps_float64", 1e-6)
    frozen = {"logit_scale": torch.tensor(float("nan"))}
    assert_probes({**recorder.gradients, **frozen}, stored, "grad_step0", 1e-9)
    for step, importances in recorder.fisher.items():
        assert_probes({**importances, **frozen}, stored, step, 1e-9)
    assert_probes(recorder.weights_after_step0, stored, "weights_after_step0", 1e-9)
    assert_probes(method.clip.model.state_dict(), stored, "final", 1e-9)


@pytest.mark.parametrize("name", trajectory_names())
def test_float32_run(name: str) -> None:
    if name == "gift_distill_only_load_last":
        pytest.skip("its true gradients start at 0 and Adam walks on rounding noise: only float64 has numbers")
    method, recorder = run(name, "32-true")
    assert_losses(name, recorder, "steps_float32", 1e-4)
    assert_probes(method.clip.model.state_dict(), numbers(f"trajectories/{name}.safetensors"), "final", 1e-4)


def test_cut_text_trains_the_same_weights() -> None:
    name = "finetune" if "finetune" in trajectory_names() else pytest.skip("no run named finetune")
    method, recorder = run(name, "64-true", cut_text=True)
    assert_losses(name, recorder, "steps_float64", 1e-6)
    assert_probes(method.clip.model.state_dict(), numbers(f"trajectories/{name}.safetensors"), "final", 1e-9)


def test_the_methods_that_exist_are_compared() -> None:
    if "GOLDEN_DIR" in os.environ:
        pytest.skip("GOLDEN_DIR names another set, which may hold other runs")
    for name in ("finetune", "finetune_B", "finetune_R", "finetune_epochs", "finetune_load", "finetune_wd"):
        assert type(build(name, torch.float64)[0]).__name__ == "Finetune"
    for name in ("l2", "l2_load"):
        assert type(build(name, torch.float64)[0]).__name__ == "L2"
    gift = [name for name in trajectory_names() if name.startswith("gift_")]
    assert len(gift) == 13  # all but static_awc, a slip of the authors' code
    for name in gift:
        assert type(build(name, torch.float64)[0]).__name__ == "GIFT"
