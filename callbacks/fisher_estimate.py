"""The Fisher information of the weights, estimated on replayed pairs."""

from typing import Any, Literal

import torch
from torch import Tensor

from callbacks.task_callback import TaskCallback, sequence_of
from gift_lightning.numerics.consolidation import normalised_fisher


class FisherEstimate(TaskCallback):
    """Estimates the diagonal Fisher information, and logs how it is spread over the layers.

    In the adaptive mode the method itself estimates it at every step, from that step's replay gradient, and this only
    logs. In the mode ``boundary`` it is estimated once when a task starts: the mean over the batches of the replay set
    of the squared gradient of the replay loss, at the weights from which the task starts. With a teacher that equals
    the student there the distillation adds nothing to it, the alignment does.

    Args:
        mode: where the importances of the method come from.
    """

    def __init__(self, mode: Literal["adaptive", "boundary", "l2", "off"]) -> None:
        self.mode = mode

    def prepare_task(self, trainer: Any, module: Any, task: int) -> None:
        # not in on_task_start: the teacher sees the replay set first
        starts = trainer.global_step == sequence_of(trainer).first_step(task)
        if self.mode == "boundary" and starts:
            squares = self.estimate(trainer, module)
            module.fisher.fill(normalised_fisher(squares, module.trained), module.clip)
            for logger in trainer.loggers:
                logger.log_metrics(self._shares(module, squares), trainer.global_step)

    def estimate(self, trainer: Any, module: Any) -> list[Tensor | None]:
        """Mean squared gradient of the replay loss, over batches of the size that training has; weights stay untouched.

        The batches go through the replay set in its order; what does not fill a last one is left out, and a set smaller
        than a batch is repeated to fill one.
        """
        parts = trainer.world_size * trainer.accumulate_grad_batches
        share = sequence_of(trainer).replay.batch_size // parts
        size = share * trainer.world_size
        batches = max(1, len(sequence_of(trainer).replay_images) // size)
        total: list[Tensor | None] = []
        for batch in range(batches):
            first = batch * size + trainer.global_rank * share
            gradient = module.differentiate(module.replay_batch(torch.arange(first, first + share)))
            module.reduce_(gradient, 1.0)
            squares = [None if part is None else part.square() / batches for part in gradient]
            total = squares if not total else [_sum(a, b) for a, b in zip(total, squares, strict=True)]
        return total

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: object, batch: object, batch_idx: int) -> None:
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        every = trainer.log_every_n_steps
        if self.mode == "adaptive" and stepped and every and trainer.global_step % every == 0:
            squares = [None if part is None else part.square() for part in module.replay_gradient]
            module.log_dict(self._shares(module, squares))

    def _shares(self, module: Any, squares: list[Tensor | None]) -> dict[str, float]:
        names = [name for name, parameter in module.clip.named_parameters() if parameter.requires_grad]
        return {f"fisher/{layer}": share for layer, share in layer_shares(names, squares).items()}


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else first + second


@torch.no_grad()
def layer_shares(names: list[str], squares: list[Tensor | None]) -> dict[str, float]:
    """Share of each layer in the whole Fisher information, in percent.

    A layer is everything up to the first number in a parameter's name, or its first two words.

    >>> squares = [torch.tensor([1.0, 2.0]), torch.tensor([1.0]), None]
    >>> layer_shares(["model.visual.blocks.0.weight", "model.visual.blocks.1.weight", "model.ln_final.weight"], squares)
    {'visual.blocks.0': 75.0, 'visual.blocks.1': 25.0, 'ln_final': 0.0}
    """
    sums: dict[str, Tensor] = {}
    for name, square in zip(names, squares, strict=True):
        layer, value = layer_of(name), torch.zeros(()) if square is None else square.sum()
        sums[layer] = sums[layer] + value if layer in sums else value
    device = next((square.device for square in squares if square is not None), torch.device("cpu"))
    mass = torch.stack([value.to(device) for value in sums.values()])
    shares = (100 * mass / mass.sum().clamp(min=torch.finfo(mass.dtype).tiny)).tolist()
    return dict(zip(sums, shares, strict=True))


def layer_of(name: str) -> str:
    """The layer to which a parameter of the CLIP belongs."""
    words = name.removeprefix("model.").split(".")
    numbers = [position for position, word in enumerate(words) if word.isdigit()]
    return ".".join(words[: numbers[0] + 1] if numbers else words[:-1][:2] or words)
