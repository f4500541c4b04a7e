"""A training step: what it keeps in memory, what it computes where it is logged, and that it waits for no device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import ReferenceType, ref

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from callbacks.task_callback import TaskCallback
from gift_lightning.methods import GIFT, ZSCL, ContinualCLIP, Finetune
from tests.gift_lightning.methods.test_gift import MINI, DrawnReplay, EarlyProbe, Probe, fit, gift, largest_difference


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
        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
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

WAITS = (
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.nonzero,
    torch.ops.aten.masked_select,
    # torch.ops.aten._unique2 waits too: the texts of a batch of pairs are made distinct on the device
)


class NoWait(TorchDispatchMode):
    """Fails at an operation whose result a GPU has to send back before the program goes on."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in WAITS, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


@contextmanager
def no_wait_on_cuda() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Guarded(TaskCallback):
    """Lets nothing wait for the device from where a step begins until its optimiser has stepped.

    The first step of a task is left out, in which the optimiser makes its state.

    Args:
        guard: the context in which a wait is an error.
    """

    def __init__(self, guard: Callable[[], Any]) -> None:
        self.guard, self.guarded, self.context = guard, 0, None

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx and trainer.global_step + 1 != trainer.datamodule.first_step(module.task + 1):
            self.context = self.guard()
            self.context.__enter__()
            self.guarded += 1

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if self.context is not None:
            self.context.__exit__(None, None, None)
            self.context = None


METHODS: list[tuple[type[ContinualCLIP], bool]] = [(Finetune, False), (ZSCL, True), (GIFT, True)]


def fit_guarded(kind: type[ContinualCLIP], replays: bool, guard: Callable[[], Any], accelerator: str) -> None:
    guarded, replay = Guarded(guard), DrawnReplay() if replays else None
    fit(kind(clip=MINI), guarded, replay=replay, accelerator=accelerator, log_every_n_steps=50)
    assert guarded.guarded == 1  # of the second task's three steps


@pytest.mark.parametrize(("kind", "replays"), METHODS)
def test_a_step_asks_no_tensor_for_its_values(kind: type[ContinualCLIP], replays: bool) -> None:
    fit_guarded(kind, replays, NoWait, "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("kind", "replays"), METHODS)
def test_a_step_never_waits_for_the_gpu(kind: type[ContinualCLIP], replays: bool) -> None:
    fit_guarded(kind, replays, no_wait_on_cuda, "gpu")


def test_a_wait_is_noticed() -> None:
    class Waits(Finetune):
        def record(self, name: str, value: Tensor) -> Tensor:
            assert value.item() > 0
            return super().record(name, value)

    with pytest.raises(AssertionError, match="waits for the device"):
        fit_guarded(Waits, False, NoWait, "cpu")
