"""Whole training runs against the numbers of the authors' code, through the real module and Trainer."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from datamodules import Task, TaskSequence
from datamodules.stream import StepBatches, StepLoader
from gift_lightning.methods import GIFT
from tests.golden.golden import (
    GoldenMemory,
    assert_probes,
    assert_single_probes,
    golden_trainer,
    key_bias,
    noise,
    numbers,
    settings,
    shipped_only,
    trajectory_names,
)
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
    and averages after step 0, the weights after the last step, and the Fisher importances of the first two steps; and
    how far each key bias is from where the task began, ``[n]`` at each step.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.key_bias: list[Tensor] = []
        self.gradients: dict[str, Tensor] = {}
        self.fisher: dict[str, dict[str, Tensor]] = {}
        self.weights: dict[str, dict[str, Tensor]] = {}
        self.lr = 0.0

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.steps, self.key_bias = [], []
        self.start = key_bias(copied(module.clip.model))

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.lr = optimizer.param_groups[0]["lr"]

    def on_after_backward(self, trainer: Any, module: Any) -> None:
        if (
            isinstance(module, GIFT)
            and getattr(module, "consolidation", "adaptive") == "adaptive"
            and len(self.steps) < 2
        ):
            names = [name for name, p in module.clip.model.named_parameters() if p.requires_grad]
            importances = module.importance([None if g is None else g.clone() for g in module.replay_gradient])
            self.fisher[f"fisher_step{len(self.steps)}"] = dict(zip(names, importances, strict=True))

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.key_bias.append((key_bias(copied(module.clip.model)) - self.start).abs())
        if len(self.steps) == 1:  # whatever changes weights after a step has done so
            self.weights["weights_after_step0"] = copied(module.clip.model)
            if getattr(module, "average", None) is not None:
                self.weights["averaged_after_step0"] = copied(module.average.module.model)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.steps:
            parameters = module.clip.model.named_parameters()
            self.gradients = {name: p.grad.clone() for name, p in parameters if p.grad is not None}
        self.weights["weights_last_iterate"] = copied(module.clip.model)
        self.steps.append({"lr": self.lr, **{name: part.item() for name, part in module.losses.items()}})


def consolidation_of(method: Any) -> str:
    """The kind of GIFT's weight consolidation; "none" for another method."""
    return getattr(method, "consolidation", "adaptive" if isinstance(method, GIFT) else "none")


def copied(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: weight.to("cpu", copy=True) for name, weight in model.state_dict().items()}


def fit(name: str, precision: str, cut_text: bool = False, log_every: int = 1) -> tuple[Run, Recorder]:
    dtype = torch.float64 if precision == "64-true" else torch.float32
    run = build(name, dtype, cut_text)
    recorder = Recorder()
    trainer = golden_trainer(precision, len(run.tasks), recorder, log_every=log_every)
    tasks: list[Task] = [*run.tasks]
    sequence = GoldenSequence(tasks, batch_size=8, steps=run.steps, shuffle=False, replay=run.replay)
    trainer.fit(run.method, sequence)
    assert len(recorder.steps) == run.steps
    return run, recorder


def compared_losses(name: str, run: Run, recorder: Recorder) -> list[dict[str, float]]:
    """Ours at each step, as the golden files name them, without what key biases add to a plain l2 penalty."""
    compared = []
    for ours, distance in zip(recorder.steps, recorder.key_bias, strict=True):
        parts = {part: value for part, value in ours.items() if part != "lr"}
        if weight := plain_l2(name, run):
            parts["l2" if "l2" in parts else "consolidation"] -= weight * distance.square().sum().item()
        losses = {"lr": ours["lr"], "loss": sum(parts.values())}
        losses |= {theirs: parts[part] for part, theirs in PARTS.items() if part in parts}
        losses |= {raw: parts[part] / run.scale for part, raw in RAW.items() if part in parts}
        if "l2" in parts:
            losses["l2_loss"] = losses["l2_raw"] = parts["l2"] / settings(name)["l2"]
        compared.append(losses)
    return compared


def plain_l2(name: str, run: Run) -> float:
    """The weight of a penalty that counts every weight alike; 0 if there is none."""
    weighted = consolidation_of(run.method) not in ("none", "l2")
    return 0.0 if weighted else settings(name)["l2"]


def of_key_biases(name: str, run: Run, recorder: Recorder) -> float:
    """The most that key biases may add to a plain l2 penalty of theirs.

    The loss does not depend on a key bias, whose gradient is rounding noise plus the pull of the penalty itself. Below
    Adam's epsilon a step answers that pull 2 l2 lr / epsilon times, here 100 000 times too strongly: from 1e-12 after
    the first step, and another 1e-12 with the kernels of another CPU, a key bias comes to the size of lr by the fourth.
    There it swings, as Adam makes no longer steps. So the part of the penalty that key biases make (3e-5 here) is the
    kernels' and not the method's: ours is taken out, and theirs is as if all n were as far as the farthest of ours.
    """
    distances = torch.stack(recorder.key_bias)
    return plain_l2(name, run) * distances.shape[1] * distances.max().item() ** 2


PENALISED = {"loss", "wc_loss", "l2_loss", "l2_raw"}
COMPARED = PENALISED | {"lr"} | set(PARTS.values()) | set(RAW.values())
EXACT = 1e-6


def assert_losses(name: str, run: Run, recorder: Recorder, tolerance: float) -> None:
    theirs = numbers(f"trajectories/{name}.json")["steps_float64"]
    most = of_key_biases(name, run, recorder)
    for step, losses in enumerate(compared_losses(name, run, recorder)):
        for part in losses.keys() & theirs[step].keys():
            more, penalised = theirs[step][part] - losses[part], most if part in PENALISED else 0.0
            assert -tolerance <= more <= tolerance + penalised, f"step {step}: {part} differs by {more:.1e}"


def noise_of_losses(name: str) -> float:
    """The tolerance of a run in float32: one for all parts of the loss, whose noise is that of the same features."""
    file = numbers(f"trajectories/{name}.json")
    names = (file["steps_float64"][0].keys() & COMPARED) - {"lr"}
    single, double = (
        torch.tensor([[losses[part] for part in names] for losses in file[f"steps_{kind}"]], dtype=torch.float64)
        for kind in ("float32", "float64")
    )
    return noise(single, double)


@pytest.mark.parametrize("name", trajectory_names())
def test_float64_run(name: str) -> None:
    run, recorder = fit(name, "64-true")
    stored = numbers(f"trajectories/{name}.safetensors")
    assert_losses(name, run, recorder, EXACT)
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
    """As near to the numbers in float64 as theirs in float32 are."""
    file, stored = numbers(f"trajectories/{name}.json"), numbers(f"trajectories/{name}.safetensors")
    if "steps_float32" not in file or "final/probe32" not in stored:
        pytest.skip("made in float64 only")
    run, recorder = fit(name, "32-true")
    assert_losses(name, run, recorder, noise_of_losses(name))
    assert_single_probes(run.method.clip.model.state_dict(), stored)


def test_cut_text_trains_the_same_weights() -> None:
    name = "finetune" if "finetune" in trajectory_names() else pytest.skip("no run named finetune")
    run, recorder = fit(name, "64-true", cut_text=True)
    assert_losses(name, run, recorder, EXACT)
    assert_probes(run.method.clip.model.state_dict(), numbers(f"trajectories/{name}.safetensors"), "final", 1e-9)


@pytest.mark.parametrize("name", ["gift_awc_load_last", "l2_load"])
def test_steps_that_are_not_logged_train_the_same_weights(name: str) -> None:
    if name not in trajectory_names():
        pytest.skip(f"no run named {name}")
    run, _ = fit(name, "64-true", log_every=1000)
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


@shipped_only
def test_every_run_is_compared_with_its_method() -> None:
    expected = {name: method for method, names in METHODS.items() for name in names}
    for name in trajectory_names():
        method = "GIFT" if name.startswith("gift_") else expected.get(name, "ZSCL")
        assert type(build(name, torch.float64).method).__name__.removesuffix("Ablation") == method, name
    assert type(build("gift_awc_load_last", torch.float64).method) is GIFT  # the published configuration
    assert len(trajectory_names()) == 42  # all but static_awc, a slip of the authors' code
