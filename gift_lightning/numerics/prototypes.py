"""Class prototypes, the tasks that an image is similar to, and the aggregation of their experts' logits (ConDU)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def class_prototypes(images: Tensor, labels: Tensor, texts: Tensor) -> Tensor:
    """Unit vectors ``[C, D]``: the mean of each class's images and the mean of its prompts, averaged (ConDU).

    Args:
        images: unit features ``[N, D]`` of training images.
        labels: the class of each image, ``[N]``. A class without images has the mean of its prompts.
        texts: unit features of each class's prompts in all templates, ``[C, P, D]``.

    >>> class_prototypes(torch.eye(2), torch.tensor([0, 1]), torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]]))
    tensor([[1.0000, 0.0000],
            [0.7071, 0.7071]])
    """
    sums = images.new_zeros(len(texts), images.shape[1]).index_add_(0, labels, images)
    means = sums / labels.bincount(minlength=len(texts)).clamp(min=1)[:, None]
    return F.normalize((means + texts.mean(1)) / 2, dim=-1)


@torch.no_grad()
def task_similarities(images: Tensor, prototypes: Sequence[Tensor]) -> Tensor:
    """Similarity of images to each task, ``[n, T]``: the cosine with the nearest of its prototypes.

    Args:
        images: unit features ``[n, D]``.
        prototypes: unit vectors ``[C_t, D]`` of each task.

    >>> task_similarities(torch.eye(2), [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])])
    tensor([[1.0000, 0.6000],
            [0.0000, 1.0000]])
    """
    with torch.autocast(images.device.type, enabled=False):  # in half precision near tasks would tie
        return torch.stack([(images @ classes.T).amax(1) for classes in prototypes], dim=1)


@torch.no_grad()
def nearest_tasks(similarities: Tensor, count: int) -> Tensor:
    """Boolean ``[n, T]``: the ``count`` tasks with the largest similarities ``[n, T]`` to each image, or all tasks.

    >>> nearest_tasks(torch.tensor([[0.1, 0.3, 0.2]]), 2)
    tensor([[False,  True,  True]])
    """
    best = similarities.topk(min(count, similarities.shape[1]), dim=1).indices
    return torch.zeros_like(similarities, dtype=torch.bool).scatter_(1, best, True)


@torch.no_grad()
def aggregate(logits: Tensor, expert: Callable[[int, Tensor], Tensor], weights: Tensor) -> Tensor:
    """Weighted mean of the logits ``[n, C]`` of the pre-trained model, with weight 1, and of experts (ConDU).

    An expert runs only on the images with a weight for it, one expert after the other.

    Args:
        logits: of the pre-trained model.
        expert: ``expert(task, rows)`` returns the logits ``[m, C]`` of a task's expert for the images ``rows [m]``.
        weights: of the experts for each image, ``[n, T]``; 0 for an expert that the image has not chosen.

    >>> logits, weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0], [1.0]])
    >>> aggregate(logits, lambda task, rows: torch.full((len(rows), 2), 3.0), weights)
    tensor([[1.0000, 0.0000],
            [1.5000, 2.0000]])
    """
    total = logits.clone()
    for task, shares in enumerate(weights.unbind(1)):
        rows = shares.nonzero().flatten()
        if len(rows):
            total[rows] += shares[rows, None] * expert(task, rows)
    return total / (1 + weights.sum(1, keepdim=True))
