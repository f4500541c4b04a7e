"""The order of a step: monitors and clipping see the gradient of the whole loss (``Method.complete_gradient``)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.nn.utils import get_total_norm

from callbacks import TaskBoundary
from callbacks.task_callback import TaskCallback
from datamodules import TaskSequence
from datamodules.base import Replay
from datamodules.mini import Flags
from gift_lightning.methods import GIFT, L2, ZSCL, ContinualCLIP, MoEAdapter
from gift_lightning.numerics.consolidation import normalised_fisher_
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS
from tests.gift_lightning.methods.test_gift import MINI, DrawnReplay

Weigh = Callable[[Any, list[Tensor]], list[Tensor | float]]
"""The importance of each tensor in the penalty, from the replay gradient."""


class Whole(TaskCallback):
    """Compares gradients with those that autograd computes from the losses of a step, written out.

    Attributes:
        monitored: largest difference, relative to the norm, as seen in ``on_before_optimizer_step``, at each step.
        norms: seen there.
        used: the gradient that the optimiser used, and the one seen before.
    """

    def __init__(self, penalty: float, importance: Weigh = lambda module, gradient: [1.0] * len(gradient)) -> None:
        self.penalty, self.importance = penalty, importance
        self.monitored: list[float] = []
        self.norms: list[float] = []
        self.used: list[tuple[list[Tensor], list[Tensor]]] = []
        self.task: list[Tensor] = []
        self.replay: list[Tensor] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.batch, self.begins = batch, batch_idx % trainer.accumulate_grad_batches == 0

    def on_after_backward(self, trainer: Any, module: Any) -> None:
        weights, share = module.trained_parameters(), 1 / trainer.accumulate_grad_batches
        if self.begins:
            self.task, self.replay = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
        with trainer.precision_plugin.train_step_context():
            losses = [module.task_loss(*self.batch["task"])]
            if "replay" in self.batch:
                losses.append(sum(module.replay_loss(self.batch["replay"]).values()))
        for total, loss in zip((self.task, self.replay), losses, strict=False):
            parts = torch.autograd.grad(loss, weights, allow_unused=True)
            for so_far, part in zip(total, parts, strict=True):
                so_far += 0 if part is None else share * part

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        weights, anchors = module.anchor.pairs(module.clip.model if isinstance(module, L2) else module.clip)
        factors = self.importance(module, [part.clone() for part in self.replay])
        penalty = sum(
            (f * (weight - anchor).square()).sum() for f, weight, anchor in zip(factors, weights, anchors, strict=True)
        )
        pull = torch.autograd.grad(self.penalty * penalty, weights)
        expected = [sum(parts) for parts in zip(self.task, self.replay, pull, strict=True)]
        self.seen = [weight.grad.clone() for weight in weights]
        self.norms.append(get_total_norm(self.seen).item())
        difference = get_total_norm([seen - whole for seen, whole in zip(self.seen, expected, strict=True)])
        self.monitored.append(difference.item() / get_total_norm(expected).item())

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if not trainer.fit_loop._should_accumulate():
            self.used.append(([weight.grad.clone() for weight in module.trained_parameters()], self.seen))


def adaptive(module: Any, gradient: list[Tensor]) -> list[Any]:
    return list(normalised_fisher_([part.square_() for part in gradient], gradient))


def train(method: ContinualCLIP, *callbacks: TaskCallback, replay: Replay | None = None, **settings: Any) -> None:
    """One task of three steps."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(
        callbacks=[TaskBoundary(), *callbacks], max_epochs=1, **{**SEQUENCE_DEFAULTS, **quiet, **settings}
    )
    trainer.fit(method, TaskSequence([Flags(16, 4)], batch_size=4, steps=3, replay=replay))


class Logging(GIFT):
    """Logs the norm as Lightning's documentation has it, without a call of ``super``."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.log("norm", get_total_norm([weight.grad for weight in self.trained]).item())


STEPS: dict[str, tuple[Callable[[], ContinualCLIP], Whole, dict[str, Any]]] = {
    "ZSCL, clipped by value": (
        lambda: ZSCL(clip=MINI, lr=1e-3, l2=9.0),
        Whole(9.0),
        {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"},
    ),
    "GIFT, accumulated, clipped by its norm": (
        lambda: Logging(clip=MINI, lr=1e-3, consolidation_weight=9.0),
        Whole(9.0, adaptive),
        {"gradient_clip_val": 0.3, "accumulate_grad_batches": 2},
    ),
}


@pytest.mark.parametrize("case", STEPS)
def test_monitors_and_clipping_see_the_whole_gradient(case: str) -> None:
    make, whole, settings = STEPS[case]
    method, limit, by_value = make().double(), settings["gradient_clip_val"], "gradient_clip_algorithm" in settings
    train(method, whole, replay=DrawnReplay(8, batch_size=4), precision="64-true", **settings)
    assert len(whole.monitored) == len(whole.used) == 3 and max(whole.monitored) < 1e-10
    for norm, (used, seen) in zip(whole.norms, whole.used, strict=True):
        for gradient, before in zip(used, seen, strict=True):
            clipped = before.clamp(-limit, limit) if by_value else before * limit / norm
            torch.testing.assert_close(gradient, clipped, rtol=1e-4, atol=0)
    assert min(whole.norms) > limit  # and so there was something to clip
    if isinstance(method, Logging):
        assert method.trainer.callback_metrics["norm"].item() == pytest.approx(whole.norms[-1])


def test_a_scaled_loss_is_scaled_back_before_the_penalty_is_added() -> None:
    """``16-mixed`` on a CPU, by its plugin; the scale of the loss is 1024."""
    whole = Whole(9.0)
    scaled = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
    train(L2(clip=MINI, lr=1e-3, l2=9.0), whole, plugins=[scaled], gradient_clip_val=0.3)
    assert len(whole.monitored) == 3 and max(whole.monitored) < 0.02
    for used, _ in whole.used:
        assert get_total_norm(used).item() == pytest.approx(0.3, rel=1e-3)


def test_monitors_see_the_gradients_of_the_experts_that_learn() -> None:
    shares: list[float] = []

    class Monitor(TaskCallback):
        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
            for stack, rows in optimizer.rows.items():
                assert not stack.grad[~rows].any()
            shares.append(sum(rows.sum().item() for rows in optimizer.rows.values()))

    method = MoEAdapter(clip=MINI, experts=4, top_k=1, width=2, frozen_experts=1, routers="shared", towers="image")
    train(method, Monitor())
    assert len(shares) == 3 and all(shares)
