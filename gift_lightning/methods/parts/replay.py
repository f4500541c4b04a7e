"""The base of the methods that see image-text pairs beside the task: a second loss, whose graph is freed at once."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributed import Work
from torch.optim import Optimizer

from datamodules.base import Replay
from datamodules.replay.exemplar_memory import ExemplarMemory
from datamodules.shard import ReplayBatch
from gift_lightning.errors import InputError
from gift_lightning.methods.base import ContinualCLIP
from gift_lightning.numerics.consolidation import gradients_of


class ReplayCLIP(ContinualCLIP):
    """A method with a loss on images and texts beside the task's.

    Every step differentiates the replay loss first and frees its graph before the task's is built, so that only one is
    alive at a time: ``training_step`` hands the batch of ``data.replay`` to ``differentiate``, which calls the method's
    ``replay_loss``. The gradient waits in ``replay_gradient``, which the consolidation of weights needs alone, until
    ``complete_gradient`` adds it to that of the task and lets go of it. Meanwhile the ranks sum it.

    The loss of a batch is that of all ranks' images together; the losses of accumulated batches are averaged, as in any
    contrastive learning. A task without a replay set has the loss of the task alone.

    Attributes:
        replay_gradient: of the replay loss of the current step, for each trained tensor; ``None`` where the loss does
            not reach. Averaged over accumulated batches, and summed over ranks after the backward pass.
    """

    replays = True
    keeps_replay_gradient = True
    not_in_knowledge: ClassVar[tuple[str, ...]] = ("replay_gradient", "_text_tokens")

    replay_type: type[Replay] = Replay
    """The class of ``data.replay``, for a method that is defined by it."""

    trains_on_texts = False
    """Whether the loss has a gradient for the texts, too; each image then needs its text."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.replay_gradient: list[Tensor | None] = []
        self._sum: Work | None = None
        self._text_tokens: Tensor | None = None

    @abstractmethod
    def replay_loss(self, batch: ReplayBatch) -> dict[str, Tensor]:
        """Named terms of the loss of the global batch, equal on all ranks, from this rank's part of it."""

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        accumulated = self.trainer.accumulate_grad_batches
        if batch_idx % accumulated == 0:
            self.replay_gradient = []
        if "replay" in batch:
            self.replay_gradient = _added(self.replay_gradient, _unshared(self.differentiate(batch["replay"])))
            if (batch_idx + 1) % accumulated == 0:
                _divide_(self.replay_gradient, accumulated)
                self._sum = self.begin_sum(self.replay_gradient)
        return super().training_step(batch, batch_idx)

    def differentiate(self, batch: ReplayBatch) -> list[Tensor | None]:
        """This rank's gradient of the replay loss of one batch; the sum over ranks is the gradient of the loss."""
        losses = self.replay_loss(batch)
        for name, loss in losses.items():
            self.record(name, loss)
        with torch.autocast(self.device.type, enabled=False):
            gradient = torch.autograd.grad(sum(losses.values()), self.trained, allow_unused=True)  # type: ignore[arg-type]
        return list(gradient)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """The backward pass of the task loss ``[]``; then wait for the sum over ranks, which began before it."""
        super().backward(loss, *args, **kwargs)
        if self._sum is not None:
            self._sum.wait()
            self._sum = None

    def complete_gradient(self, optimizer: Optimizer) -> None:
        """Add the replay gradient to that of the task, which DDP has averaged over ranks by now, and let go of it."""
        gradient, self.replay_gradient = self.replay_gradient, []
        if gradient:
            weights = [weight for weight, part in zip(self.trained, gradient, strict=True) if part is not None]
            torch._foreach_add_(gradients_of(weights), _reached(gradient))

    def begin_sum(self, gradient: list[Tensor | None]) -> Work | None:
        """Begin to sum a gradient over ranks; ``wait`` of the result, which is ``None`` on a single rank, ends it.

        The gradient travels in one message, of which its tensors become views.
        """
        if self.trainer.world_size == 1:
            return None
        reached = _reached(gradient)
        message = torch.cat([part.flatten() for part in reached])
        parts = iter(message.split([part.numel() for part in reached]))
        gradient[:] = [None if part is None else next(parts).view_as(part) for part in gradient]
        return torch.distributed.all_reduce(message, async_op=True)

    def gather(self, features: Tensor) -> Tensor:
        """``[b, ...]`` of each rank to ``[W b, ...]`` of the global batch, in its order.

        Gradients flow into this rank's features alone. As every rank computes the whole loss, the sum of their
        gradients is that of the loss: nothing has to travel backwards, and no factor of the world size is needed.
        """
        if self.trainer.world_size == 1:
            return features
        of_ranks = list(self.all_gather(features.detach()).unbind(0))  # type: ignore[union-attr]
        of_ranks[self.global_rank] = features
        return torch.cat(of_ranks)

    def encode_pair_texts(self, batch: ReplayBatch) -> Tensor:
        """Unit features ``[b, D]`` of the texts of pairs; a text of several pairs is encoded once."""
        assert self._text_tokens is not None
        return self.clip.encode_text(self._text_tokens[batch.distinct_texts])[batch.text_row]

    def replay_texts(self) -> list[str]:
        """The texts of the current task's replay set."""
        return self.replay.texts

    @property
    def replay(self) -> Replay:
        """Where the images and texts come from: ``data.replay``, which ``setup`` has checked."""
        replay = self.sequence.replay
        assert replay is not None
        return replay

    @property
    def trained(self) -> list[Tensor]:
        """The tensors that training changes, in the order of the gradients and importances."""
        return [parameter for parameter in self.clip.parameters() if parameter.requires_grad]

    def prepare_task(self, task: int) -> None:
        super().prepare_task(task)
        if not self.trains_on_texts:
            return
        texts = self.replay_texts()
        too_long = self.clip.first_too_long(texts)
        if too_long is not None:
            raise InputError(f"The CLIP cannot read the whole replay prompt '{too_long}': shorten it in `data.replay`.")
        self._text_tokens = self.clip.tokenize(texts)

    def setup(self, stage: str) -> None:
        super().setup(stage)
        method, replay = type(self).__name__, self.sequence.replay
        if stage != "fit":
            return
        if replay is None:
            raise InputError(f"{method} replays image-text pairs: say with `data.replay` where they are.")
        if not isinstance(replay, self.replay_type):
            raise InputError(
                f"{method} replays other images than those of {type(replay).__name__}: set `data.replay` to"
                f" datamodules.{self.replay_type.__name__}."
            )
        if isinstance(replay, ExemplarMemory) and self.replay_type is Replay:
            raise InputError(f"{method} fills no memory: choose another `data.replay` than ExemplarMemory.")
        if self.trains_on_texts and not replay.paired:
            raise InputError(
                f"{method} needs a text for each image, and `data.replay` has images alone: choose another."
            )
        if self.trainer.precision == "16-mixed":
            raise InputError(
                "`trainer.precision` 16-mixed would lose small replay gradients: choose bf16-mixed or 32-true."
            )


def _reached(gradient: Sequence[Tensor | None]) -> list[Tensor]:
    return [part for part in gradient if part is not None]


def _unshared(gradient: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Gradients that share no storage: autograd returns one tensor for two parameters that are added."""
    taken: set[int] = set()
    parts: list[Tensor | None] = []
    for part in gradient:
        if part is not None:
            storage = part.untyped_storage()._cdata
            part = part.clone() if storage in taken else part
            taken.add(storage)
        parts.append(part)
    return parts


def _added(total: list[Tensor | None], more: list[Tensor | None]) -> list[Tensor | None]:
    """The sum of two gradients; in both the same tensors are missing."""
    if not total:
        return more
    torch._foreach_add_(_reached(total), _reached(more))
    return total


def _divide_(gradient: Sequence[Tensor | None], batches: int) -> None:
    if batches > 1:
        torch._foreach_mul_(_reached(gradient), 1 / batches)
