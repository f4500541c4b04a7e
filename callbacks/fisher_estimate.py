"""The Fisher information of the weights, from gradients of the replay loss."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.distributed import Work

from callbacks.method import Method
from callbacks.task_callback import TaskCallback, sequence_of
from datamodules.shard import ReplayBatch
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import CLIP
from gift_lightning.numerics.consolidation import normalised_fisher_


class Replaying(Protocol):
    """The parts of a method with a replay loss that its Fisher information is computed from."""

    clip: CLIP
    replay_gradient: list[Tensor | None]
    is_logged: bool

    @property
    def trained(self) -> list[Tensor]:
        """The tensors that training changes, in the order of the gradients."""

    def differentiate(self, batch: ReplayBatch) -> list[Tensor | None]:
        """This rank's gradient of the replay loss of one batch."""

    def begin_sum(self, gradient: list[Tensor | None]) -> Work | None:
        """Begin to sum a gradient over ranks, in place."""

    def log_dict(self, dictionary: Mapping[str, Any]) -> None:
        """Log values of the current step."""


class FisherShares(TaskCallback):
    """Logs the share of each layer in the squared gradient of the replay loss, as ``fisher/<layer>`` in percent.

    Args:
        method: whose ``replay_gradient`` is looked at before a step uses it up.
    """

    def __init__(self, method: Replaying) -> None:
        self.method = method

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.method.is_logged:
            sums = [None if part is None else part.square().sum() for part in self.method.replay_gradient]
            self.method.log_dict(_shares(self.method, sums))


class FisherEstimate(TaskCallback):
    """Estimates the diagonal Fisher information once when a task starts, and logs the share of each layer.

    It is the mean over the batches of the replay set of the squared gradient of the replay loss, at the weights from
    which the task starts, and within each tensor divided by its mean. With a teacher that equals the student there, the
    distillation adds nothing to it, the alignment does.

    Args:
        method: whose weights and replay loss.
        fisher: where the importances go, of the shape of the method's CLIP.
    """

    def __init__(self, method: Replaying, fisher: FrozenCopy[CLIP]) -> None:
        self.method, self.fisher = method, fisher

    def prepare_task(self, trainer: Trainer, method: Method, task: int) -> None:
        # not in on_task_start: the teacher sees the replay set first
        if trainer.global_step == sequence_of(trainer).first_step(task):
            squares = self.estimate(trainer)
            sums = [None if square is None else square.sum() for square in squares]
            self.fisher.fill(normalised_fisher_(squares, self.method.trained), self.method.clip)
            for logger in trainer.loggers:
                logger.log_metrics(_shares(self.method, sums), trainer.global_step)

    def estimate(self, trainer: Trainer) -> list[Tensor | None]:
        """Mean squared gradient of the replay loss, over batches of the size that training has; weights stay untouched.

        The batches go through the replay set in its order; what does not fill a last one is left out, and a set smaller
        than a batch is repeated to fill one.
        """
        sequence = sequence_of(trainer)
        assert sequence.replay is not None
        share = sequence.replay.batch_size // (trainer.world_size * trainer.accumulate_grad_batches)
        size = share * trainer.world_size
        batches = max(1, len(sequence.replay_images) // size)
        total: list[Tensor | None] = []
        for batch in range(batches):
            first = batch * size + trainer.global_rank * share
            pairs = torch.arange(first, first + share) % len(sequence.replay_images)
            gradient = self.method.differentiate(sequence.replay_batch(pairs))
            begun = self.method.begin_sum(gradient)
            if begun is not None:
                begun.wait()
            squares = [None if part is None else part.square() / batches for part in gradient]
            total = squares if not total else [_sum(a, b) for a, b in zip(total, squares, strict=True)]
        return total


def _shares(method: Replaying, sums: list[Tensor | None]) -> dict[str, float]:
    names = [name for name, parameter in method.clip.named_parameters() if parameter.requires_grad]
    return {f"fisher/{layer}": share for layer, share in layer_shares(names, sums).items()}


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else first + second


@torch.no_grad()
def layer_shares(names: list[str], sums: list[Tensor | None]) -> dict[str, float]:
    """Share of each layer in the whole Fisher information, in percent.

    A layer is everything up to the first number in a parameter's name, or its first two words.

    Args:
        names: of parameters.
        sums: of their squared gradients, scalars; ``None`` for a parameter without gradient.

    >>> sums = [torch.tensor(3.0), torch.tensor(1.0), None]
    >>> layer_shares(["model.visual.blocks.0.weight", "model.visual.blocks.1.weight", "model.ln_final.weight"], sums)
    {'visual.blocks.0': 75.0, 'visual.blocks.1': 25.0, 'ln_final': 0.0}
    """
    of_layers: dict[str, Tensor] = {}
    for name, value in zip(names, sums, strict=True):
        layer, value = layer_of(name), torch.zeros(()) if value is None else value
        of_layers[layer] = of_layers[layer] + value if layer in of_layers else value
    device = next((value.device for value in sums if value is not None), torch.device("cpu"))
    mass = torch.stack([value.to(device) for value in of_layers.values()])
    shares = (100 * mass / mass.sum().clamp(min=torch.finfo(mass.dtype).tiny)).tolist()
    return dict(zip(of_layers, shares, strict=True))


def layer_of(name: str) -> str:
    """The layer to which a parameter of the CLIP belongs."""
    words = name.removeprefix("model.").split(".")
    numbers = [position for position, word in enumerate(words) if word.isdigit()]
    return ".".join(words[: numbers[0] + 1] if numbers else words[:-1][:2] or words)
