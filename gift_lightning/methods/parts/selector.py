"""Which task an image looks like: an auto-encoder for each task, and the one that gives the image back best."""

from typing import Any

import torch
from torch import Tensor, nn

from gift_lightning.numerics.autoencoder import AutoEncoder


class Selector(nn.Module):
    """The auto-encoders of all tasks, and one of reference images.

    Args:
        features: of an image.
        code: see ``AutoEncoder``.
        seeds: of the initial weights, one for each task.
        reference: seed of the one of reference images; ``None`` if there are no such images.
    """

    def __init__(self, features: int, code: int, seeds: list[int], reference: int | None) -> None:
        super().__init__()

        def make(seed: int) -> AutoEncoder:
            return AutoEncoder(features, code, torch.Generator().manual_seed(seed))

        self.tasks = nn.ModuleList(make(seed) for seed in seeds)
        self.reference = None if reference is None else make(reference)

    def errors(self, features: Tensor, tasks: int) -> tuple[Tensor, Tensor | None]:
        """Errors ``[n, tasks]`` of the first auto-encoders on features ``[n, F]``, and ``[n]`` of the reference's."""
        learned: list[Any] = list(self.tasks)[:tasks]
        of_tasks = torch.stack([autoencoder.errors(features) for autoencoder in learned], 1)
        return of_tasks, None if self.reference is None else self.reference.errors(features)

    def kept(self, tasks: int) -> dict[str, Tensor]:
        """The first auto-encoders and the reference's, by name."""
        later = tuple(f"tasks.{index}." for index in range(tasks, len(self.tasks)))
        return {name: weight.detach() for name, weight in self.named_parameters() if not name.startswith(later)}
