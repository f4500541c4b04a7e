"""Which tasks an image belongs to, told by prototypes of their classes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def class_prototypes(images: Tensor, labels: Tensor, texts: Tensor) -> Tensor:
    """Unit vectors ``[C, D]``: the mean of each class's images and the mean of its prompts, averaged (ConDU).

    Args:
        images: unit features ``[N, D]`` of training images.
        labels: the class of each, ``[N]``. A class without images has the mean of its prompts.
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
    """How close images come to each task, ``[n, T]``: the cosine with the nearest of its prototypes ``[C_t, D]``.

    >>> task_similarities(torch.eye(2), [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])])
    tensor([[1.0000, 0.6000],
            [0.0000, 1.0000]])
    """
    with torch.autocast(images.device.type, enabled=False):  # in half precision near tasks would tie
        return torch.stack([(images @ own.T).amax(1) for own in prototypes], dim=1)


@torch.no_grad()
def nearest_tasks(similarities: Tensor, count: int) -> Tensor:
    """Boolean ``[n, T]``: the ``count`` tasks that each image comes closest to, all of them if there are fewer.

    >>> nearest_tasks(torch.tensor([[0.1, 0.3, 0.2]]), 2)
    tensor([[False,  True,  True]])
    """
    best = similarities.topk(min(count, similarities.shape[1]), dim=1).indices
    return torch.zeros_like(similarities, dtype=torch.bool).scatter_(1, best, True)


@torch.no_grad()
def aggregate(logits: Tensor, expert: Callable[[int, Tensor], Tensor], weights: Tensor) -> Tensor:
    """Weighted mean of the logits ``[n, C]`` of the pre-trained model, with weight 1, and of experts (ConDU).

    An expert is asked only for the images that give it a weight, one expert after the other.

    Args:
        logits: of the pre-trained model.
        expert: ``expert(task, rows)`` gives the logits ``[m, C]`` of a task's expert for the images ``rows [m]``.
        weights: of the experts for each image, ``[n, T]``; 0 where an image has not chosen one.
    """
    total = logits.clone()
    for task, own in enumerate(weights.unbind(1)):
        rows = own.nonzero().flatten()
        if len(rows):
            total[rows] += own[rows, None] * expert(task, rows)
    return total / (1 + weights.sum(1, keepdim=True))
