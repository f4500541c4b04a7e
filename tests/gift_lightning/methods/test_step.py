"""A training step: what it keeps in memory, what it computes where it is logged, and that it waits for no device."""

from typing import Any
from weakref import ReferenceType, ref

import pytest
import torch
from torch import Tensor

from callbacks.task_callback import TaskCallback
from gift_lightning.methods import GIFT, ZSCL, ContinualCLIP, Finetune
from tests.gift_lightning.methods.test_gift import MINI, DrawnReplay, EarlyProbe, Probe, fit, gift, largest_difference
from tests.waiting import no_wait


def test_parameters_that_are_added_keep_gradients_of_their_own() -> None:
    """Autograd gives both the same tensor, and a step changes gradients in place."""
    parts: list[list[Tensor]] = []
    found: list[float] = []

    class Added(GIFT):
        def replay_loss(self, *batch: Any) -> dict[str, Tensor]:
            one, other = (block.attn.out_proj.bias for block in self.clip.model.transformer.resblocks[:2])
            return {**super().replay_loss(*batch), "added": (one + other).square().sum()}

        def differentiate(self, batch: Any) -> list[Tensor | None]:
            gradient = super().differentiate(batch)
            parts.append([part.clone() for part in gradient if part is not None])
            return gradient

    class Check(TaskCallback):
        def on_after_backward(self, trainer: Any, module: Any) -> None:
            if not module.is_logged:  # of the first of two accumulated batches
                return
            own = [weight.grad.clone() for weight in module.trained]
            self.expected = [w + (one + other) / 2 for w, one, other in zip(own, *parts[-2:], strict=True)]

        def on_train_batch_end(self, trainer: Any, module: Any, *arguments: Any) -> None:
            if arguments[-1] % 2 == 1:
                found.append(largest_difference([weight.grad for weight in module.trained], self.expected))

    method = Added(clip=MINI, lr=1e-3, consolidation_weight=0.0).double()
    fit(method, Check(), replay=DrawnReplay(), accumulate_grad_batches=2, precision="64-true")
    assert len(found) == 5 and max(found) < 1e-12


def test_the_replay_gradient_is_gone_when_the_optimiser_steps() -> None:
    alive: list[int] = []
    kept: list[ReferenceType[Tensor]] = []

    class Watched(GIFT):
        def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:  # between the hook and the optimiser
            alive.append(sum(reference() is not None for reference in kept))

    def look(module: Any) -> None:
        kept[:] = [ref(part) for part in module.replay_gradient]

    fit(Watched(clip=MINI, lr=1e-3), EarlyProbe(look), replay=DrawnReplay(), log_every_n_steps=50)
    assert len(kept) > 10 and alive == [0] * 5


def test_the_penalty_is_computed_where_it_is_logged() -> None:
    seen: list[tuple[bool, set[str]]] = []
    fit(gift(), Probe(lambda m: seen.append((m.is_logged, set(m.losses)))), replay=DrawnReplay(), log_every_n_steps=3)
    assert [logged for logged, _ in seen] == [False, True, True, False, True]  # the last of each task, and the third
    assert all(("consolidation" in names) == logged and "task" in names for logged, names in seen)


# --- no wait for the device -------------------------------------------------------------------------------------------


class Guarded(TaskCallback):
    """Lets nothing wait for the device from where a step begins until its optimiser has stepped.

    The first step of a task is left out, in which the optimiser makes its state.
    """

    def __init__(self) -> None:
        self.guarded, self.context = 0, None  # type: ignore[var-annotated]

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx and trainer.global_step + 1 != trainer.datamodule.first_step(module.task + 1):
            self.context = no_wait(module.device)
            self.context.__enter__()
            self.guarded += 1

    def on_train_batch_end(self, *_: Any) -> None:
        if self.context is not None:
            self.context.__exit__(None, None, None)
            self.context = None

    def on_exception(self, *_: Any) -> None:
        self.on_train_batch_end()


METHODS: list[tuple[type[ContinualCLIP], bool]] = [(Finetune, False), (ZSCL, True), (GIFT, True)]


def fit_guarded(kind: type[ContinualCLIP], replays: bool, accelerator: str = "cpu") -> None:
    guarded, replay = Guarded(), DrawnReplay() if replays else None
    fit(kind(clip=MINI), guarded, replay=replay, accelerator=accelerator, log_every_n_steps=50)
    assert guarded.guarded == 1  # of the second task's three steps


@pytest.mark.parametrize(
    "accelerator",
    ["cpu", pytest.param("gpu", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))],
)
@pytest.mark.parametrize(("kind", "replays"), METHODS)
def test_no_step_waits_for_the_device(kind: type[ContinualCLIP], replays: bool, accelerator: str) -> None:
    fit_guarded(kind, replays, accelerator)


def test_a_wait_is_noticed() -> None:
    class Waits(Finetune):
        def record(self, name: str, value: Tensor) -> Tensor:
            assert value.item() > 0
            return super().record(name, value)

    with pytest.raises(AssertionError, match="waits for the device"):
        fit_guarded(Waits, False)
