"""The selector of a router (DDAS): an auto-encoder for each task, and the one with the smallest error."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gift_lightning.numerics.autoencoder import AutoEncoder, choose_routes


class Selector(nn.Module):
    """The auto-encoders of all tasks, and one of reference images.

    Args:
        features: F, of an image.
        width: see ``AutoEncoder``.
        seeds: of the initial weights, one for each task.
        reference: seed of the one of reference images; ``None`` if there are no such images.
    """

    def __init__(self, features: int, width: int, seeds: list[int], reference: int | None) -> None:
        super().__init__()

        def make(seed: int) -> AutoEncoder:
            return AutoEncoder(features, width, torch.Generator().manual_seed(seed))

        self.tasks = nn.ModuleList(make(seed) for seed in seeds)
        self.reference = None if reference is None else make(reference)

    def of_task(self, task: int) -> AutoEncoder:
        """The auto-encoder of a task."""
        autoencoder = self.tasks[task]
        assert isinstance(autoencoder, AutoEncoder)
        return autoencoder

    def errors(self, features: Tensor, tasks: int) -> tuple[Tensor, Tensor | None]:
        """Errors ``[n, tasks]`` of the first auto-encoders on features ``[n, F]``, and ``[n]`` of the reference's."""
        of_tasks = torch.stack([self.of_task(task).errors(features) for task in range(tasks)], 1)
        return of_tasks, None if self.reference is None else self.reference.errors(features)

    @torch.no_grad()
    def routes(self, batches: Iterable[Tensor], tasks: int, threshold: float, by_batch: bool) -> Tensor:
        """The router of each image ``[n]`` on the CPU; ``PLAIN`` for the pre-trained CLIP, see ``choose_routes``.

        Args:
            batches: features of the images, ``[b, F]`` each.
            tasks: how many of the first auto-encoders are asked.
            threshold: the largest error of an image of a task.
            by_batch: one router for all images of a batch, by their mean errors.
        """
        routes = []
        for features in batches:
            errors, reference = self.errors(features, tasks)
            if by_batch:
                errors = errors.mean(0).expand_as(errors)
                reference = None if reference is None else reference.mean().expand_as(reference)
            routes.append(choose_routes(errors, threshold, reference))
        return torch.cat(routes).cpu()

    def tensors(self, tasks: int) -> dict[str, Tensor]:
        """The first auto-encoders and the reference's, by name."""
        later = tuple(f"tasks.{index}." for index in range(tasks, len(self.tasks)))
        return {name: weight.detach() for name, weight in self.named_parameters() if not name.startswith(later)}
