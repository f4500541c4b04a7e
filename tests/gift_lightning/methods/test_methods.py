"""The methods on real tasks and a real Trainer, and their parts compared with the formulas written out."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn

from callbacks import AccuracyMatrix, TaskBoundary
from callbacks.task_callback import TaskCallback
from datamodules import Task, TaskSequence
from datamodules.mini import Counting, Flags, Shapes
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import CLIP
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import L2, ContinualCLIP, Finetune, ZeroShot
from gift_lightning.numerics.consolidation import distance_to_anchor, pull_to_anchor
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS

MINI = CLIPSource("package:datamodules.mini.clip")


@dataclass
class PlainCLIP(CLIPSource):
    """The mini CLIP without augmentation: a task's images do not depend on its place in the sequence."""

    name: str = MINI.name

    def load(self) -> CLIP:
        clip = super().load()
        clip.train_geometry = clip.test_geometry
        return clip


def three_tasks() -> list[Task]:
    return [Flags(16, 9), Shapes(24, 10), Counting(8, 11)]


def fit(method: ContinualCLIP, tasks: list[Task], *callbacks: TaskCallback, **trainer: Any) -> AccuracyMatrix:
    matrix = AccuracyMatrix()
    defaults = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "log_every_n_steps": 1}
    settings = {"accelerator": "cpu", "max_epochs": len(tasks), **SEQUENCE_DEFAULTS, **defaults, **trainer}
    sequence = TaskSequence(tasks, batch_size=8, steps="epoch", shuffle=False)
    Trainer(callbacks=[TaskBoundary(), matrix, *callbacks], **settings).fit(method, sequence)
    return matrix


def weights_of(method: ContinualCLIP) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in method.clip.model.state_dict().items()}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class Weights(TaskCallback):
    """Keeps the weights at the start and at the end of each task, and counts optimiser steps."""

    def __init__(self) -> None:
        self.at_start: list[dict[str, Tensor]] = []
        self.at_end: list[dict[str, Tensor]] = []
        self.steps = 0

    def on_task_start(self, trainer: Any, module: Any, task: int) -> None:
        self.at_start.append(weights_of(module))

    def on_task_end(self, trainer: Any, module: Any, task: int) -> None:
        self.at_end.append(weights_of(module))

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.steps += 1


# --- the parts --------------------------------------------------------------------------------------------------------


def test_anchor_penalty_is_that_of_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (), (2, 1, 2)]
    theta = [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in shapes]
    anchors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    penalty = 0.7 * torch.stack([((p - a) ** 2).sum() for p, a in zip(theta, anchors, strict=True)]).sum()
    expected = torch.autograd.grad(penalty, theta)
    theta[0].grad = torch.ones(3, 4, dtype=torch.float64)  # the others have none yet
    pull_to_anchor(theta, anchors, 0.7)
    value = distance_to_anchor(theta, anchors, 0.7)
    theta[0].grad -= 1
    for parameter, gradient in zip(theta, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-13, atol=1e-13)
    assert not value.requires_grad
    assert value.item() == pytest.approx(penalty.item(), rel=1e-13)


def test_frozen_copy_never_trains() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(), nn.Linear(3, 1))
    frozen = FrozenCopy(model)
    assert not list(frozen.buffers())
    assert len(list(frozen.parameters())) == 4
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    parent = nn.ModuleList([model, frozen]).train()
    assert model.training
    assert not any(part.training for part in frozen.modules())
    assert [parameter for parameter in parent.parameters() if parameter.requires_grad] == list(model.parameters())


def test_frozen_copy_copies_both_ways() -> None:
    model = nn.Linear(2, 3)
    frozen, start = FrozenCopy(model), model.weight.detach().clone()
    stored = [parameter.data_ptr() for parameter in model.parameters()]
    with torch.no_grad():
        model.weight += 1
    assert torch.equal(frozen.module.weight, start)
    frozen.copy_to(model)
    assert torch.equal(model.weight, start)
    with torch.no_grad():
        model.weight += 2
    frozen.copy_from(model)
    assert torch.equal(frozen.module.weight, start + 2)
    assert [parameter.data_ptr() for parameter in model.parameters()] == stored
    assert model.weight.requires_grad and not frozen.module.weight.requires_grad


def test_pairs_are_the_parameters_that_train() -> None:
    model = nn.Linear(2, 3)
    frozen = FrozenCopy(model)
    model.bias.requires_grad_(False)
    trained, anchors = frozen.pairs(model)
    assert trained == [model.weight]
    assert anchors == [frozen.module.weight]


class Optimised(TaskCallback):
    def prepare_task(self, trainer: Any, module: Any, task: int) -> None:
        groups = trainer.optimizers[0].param_groups
        optimised = {id(parameter) for group in groups for parameter in group["params"]}
        names = {name for name, parameter in module.named_parameters() if id(parameter) in optimised}
        everything = {f"clip.model.{name}" for name, _ in module.clip.model.named_parameters()}
        assert names == everything - {"clip.model.logit_scale"}


@pytest.mark.parametrize("method", [Finetune, L2])
def test_only_the_model_is_optimised(method: type[ContinualCLIP]) -> None:
    arguments = {"restart": True} if method is Finetune else {}
    fit(method(clip=MINI, **arguments), [Flags(8, 9)], Optimised())


class WrittenOut(TaskCallback):
    """The task loss of every step, written out."""

    def __init__(self, smoothing: float) -> None:
        self.smoothing = smoothing
        self.expected: list[float] = []
        self.recorded: list[float] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        task, model = trainer.datamodule.tasks[module.task], module.clip.model
        images, labels = batch["task"]
        with torch.no_grad():
            text = model.encode_text(module.clip.tokenizer(task.training_prompts()), normalize=True)
            logits = model.logit_scale.exp() * model.encode_image(images, normalize=True) @ text.T
            log_p = logits - logits.logsumexp(1, keepdim=True)
            right = log_p[torch.arange(len(labels)), labels]
            loss = -(1 - self.smoothing) * right - self.smoothing * log_p.mean(1)
        self.expected.append(loss.mean().item())

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.recorded.append(module.losses["task"].item())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_task_loss_is_smoothed_cross_entropy_over_the_task(smoothing: float) -> None:
    losses = WrittenOut(smoothing)
    method = Finetune(clip=MINI, lr=1e-3, warmup_steps=1, label_smoothing=smoothing)
    fit(method, three_tasks(), losses, precision="64-true")
    assert len(losses.recorded) == 6
    assert losses.recorded == pytest.approx(losses.expected, abs=1e-12)


# --- the methods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lr", "told"),
    [
        ({"Flags": 1e-3, "Shapes": 1e-3}, "no learning rate for task 'Counting'"),
        ({"Flags": 1e-3, "Shape": 1e-3, "Counting": 1e-3}, r"task 'Shape' that is not .*did you mean 'Shapes'"),
        ({}, "no learning rate for task 'Flags'"),
    ],
)
def test_learning_rates_and_tasks_must_agree(lr: dict[str, float], told: str) -> None:
    weights = Weights()
    with pytest.raises(InputError, match=told):
        fit(Finetune(clip=MINI, lr=lr), three_tasks(), weights)
    assert not weights.at_start


def test_zero_shot_repeats_the_zero_shot_row() -> None:
    method, weights = ZeroShot(clip=MINI), Weights()
    before = weights_of(method)
    matrix = fit(method, three_tasks(), weights)
    assert matrix.zero_shot and max(matrix.zero_shot) > 0
    assert matrix.rows == [matrix.zero_shot] * 3
    assert same(weights_of(method), before)
    assert weights.steps == 0


def test_finetuning_goes_on_from_the_task_before() -> None:
    weights = Weights()
    fit(Finetune(clip=MINI, lr=1e-3, warmup_steps=1), three_tasks(), weights)
    assert same(weights.at_start[1], weights.at_end[0])
    assert same(weights.at_start[2], weights.at_end[1])
    assert not same(weights.at_end[1], weights.at_end[0])


def test_restarted_tasks_do_not_know_each_other() -> None:
    def method() -> Finetune:
        return Finetune(clip=PlainCLIP(), lr=1e-3, warmup_steps=1, restart=True)

    initial, weights = weights_of(method()), Weights()
    rows = fit(method(), three_tasks(), weights).rows
    assert all(same(start, initial) for start in weights.at_start)
    for index, task in enumerate(three_tasks()):
        alone = Weights()
        row = fit(method(), [task], alone).rows[0]
        assert row == [rows[index][index]]
        assert same(alone.at_end[0], weights.at_end[index])
        assert not same(alone.at_end[0], initial)


def test_l2_pulls_towards_the_start_of_the_task() -> None:
    distances = []
    for l2 in (0.0, 10.0):
        weights = Weights()
        fit(L2(clip=MINI, lr=1e-4, warmup_steps=1, l2=l2), three_tasks(), weights)
        pairs = zip(weights.at_start, weights.at_end, strict=True)
        distances.append([sum((end[name] - start[name]).square().sum() for name in start) for start, end in pairs])
    longer = slice(0, 2)  # the third task has two steps, of which the first feels no pull
    assert all(pulled < free / 2 for free, pulled in zip(distances[0][longer], distances[1][longer], strict=True))


def test_l2_of_weight_zero_is_finetuning() -> None:
    ours, theirs = Weights(), Weights()
    fit(L2(clip=MINI, lr=1e-3, warmup_steps=1, l2=0.0), three_tasks()[:2], ours)
    fit(Finetune(clip=MINI, lr=1e-3, warmup_steps=1), three_tasks()[:2], theirs)
    assert same(ours.at_end[-1], theirs.at_end[-1])


def test_a_loss_that_is_not_a_number_names_step_and_task() -> None:
    lr = {"Flags": 1e-3, "Shapes": float("inf"), "Counting": 1e-3}
    with pytest.raises(InputError, match=r"not finite at step 4 \(task 'Shapes'\)"):
        fit(Finetune(clip=MINI, lr=lr, warmup_steps=1), three_tasks())


def test_a_broken_image_is_noticed_by_the_end_of_its_task() -> None:
    class Broken(Flags):
        def setup(self, stage: str | None = None) -> None:
            super().setup(stage)
            image = torch.full((3, 32, 32), float("nan"))
            self.train_set = [(image, 0), *(self.train_set[index] for index in range(1, 16))]  # type: ignore[assignment]

    method = Finetune(clip=MINI, lr=1e-3, warmup_steps=1)
    transform = method.clip.test_transform
    method.clip.train_geometry = lambda image: image if isinstance(image, Tensor) else transform(image)
    with pytest.raises(InputError, match=r"not finite at step 2 \(task 'Flags'\)"):
        fit(method, [Broken(16, 9)], log_every_n_steps=50)


def test_the_method_in_contributing_does_what_it_says() -> None:
    text = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code, *_ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(textwrap.dedent(code.replace("\n   ", "\n")).strip(), names)
    settings = {"clip": PlainCLIP(), "lr": 1e-3, "warmup_steps": 1}
    whole, method = Finetune(**settings), names["StepBack"](**settings)
    start = weights_of(method)
    for one in (whole, method):
        fit(one, three_tasks()[:1])
    ended = weights_of(whole)
    for name, weight in weights_of(method).items():
        assert (weight - (start[name] + ended[name]) / 2).abs().max() < 1e-6, name
