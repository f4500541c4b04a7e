"""Penalties that pull weights to an anchor, as value and gradient, and the importance of weights.

They read and write whole models, so they change tensors in place where these are used up, and hold temporary values of
no more than ``CHUNK`` elements, or of one tensor if it is larger.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

UNTOUCHED = 1e-6
"""Importance of a tensor that the loss does not reach, as in GIFT's code."""

CHUNK = 2**24
"""Elements of the tensors that are computed with at a time: no temporary copy of a whole model is made."""


@torch.no_grad()
def normalised_fisher_(squares: Sequence[Tensor | None], shapes: Sequence[Tensor]) -> list[Tensor]:
    """Importance ``F`` of each weight: its squared gradient, divided by the mean of the squares within its tensor.

    Every tensor has the mean importance 1, whatever the scale of its gradient. A tensor without a gradient has the
    importance ``UNTOUCHED``.

    Reference: Wu et al., "Synthetic Data is an Elegant GIFT for Continual Vision-Language Models" (adaptive weight
    consolidation), CVPR 2025, arXiv 2503.04229.

    Args:
        squares: squared gradients, or their mean over batches, of any shapes, which become the importances in place;
            ``None`` for a tensor without gradient.
        shapes: as many tensors with the shapes and dtypes of the result, the parameters for instance.

    Returns:
        A tensor for each of ``shapes``, to be read only.

    >>> normalised_fisher_([torch.tensor([1.0, 3.0])], [torch.empty(2)])
    [tensor([0.5000, 1.5000])]
    """
    reached = [square for square in squares if square is not None]
    if reached:
        # not _foreach_norm: on a CPU it adds the squares of a large tensor one after the other, in float32
        means = torch._foreach_clamp_min([square.mean() for square in reached], torch.finfo(reached[0].dtype).tiny)
        torch._foreach_div_(reached, means)
    return [
        like.new_full((), UNTOUCHED).expand_as(like) if square is None else square
        for square, like in zip(squares, shapes, strict=True)
    ]


@torch.no_grad()
def pull_to_anchor(
    parameters: list[Tensor],
    anchors: list[Tensor],
    weight: float,
    importance: list[Tensor] | None = None,
) -> None:
    """Add the gradient of ``weight * sum F (theta - anchor)^2`` to each ``.grad``.

    A parameter without a gradient gets one. No graph is built: the gradient of a quadratic needs no backward pass.

    Args:
        parameters: theta, tensors of any shapes.
        anchors: as many tensors of the same shapes.
        weight: of the penalty.
        importance: F, likewise, taken as constant; 1 if not given.

    >>> theta = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> pull_to_anchor([theta], [torch.tensor([0.0, 0.0])], weight=0.5)
    >>> theta.grad
    tensor([1., 2.])
    """
    gradients = gradients_of(parameters)
    for part in _chunks(parameters):
        differences = torch._foreach_sub(parameters[part], anchors[part])
        if importance is None:
            torch._foreach_add_(gradients[part], differences, alpha=2 * weight)
        else:
            torch._foreach_addcmul_(gradients[part], differences, importance[part], value=2 * weight)


@torch.no_grad()
def distance_to_anchor(
    parameters: list[Tensor],
    anchors: list[Tensor],
    weight: float,
    importance: list[Tensor] | None = None,
) -> Tensor:
    """The penalty ``weight * sum F (theta - anchor)^2``, a scalar ``[]`` without graph.

    Args:
        parameters, anchors, weight, importance: see ``pull_to_anchor``.

    >>> distance_to_anchor([torch.tensor([1.0, 2.0])], [torch.tensor([0.0, 0.0])], weight=0.5)
    tensor(2.5000)
    """
    sums: list[Tensor] = []
    for part in _chunks(parameters):
        squares = torch._foreach_sub(parameters[part], anchors[part])
        torch._foreach_mul_(squares, squares)
        if importance is not None:
            torch._foreach_mul_(squares, importance[part])
        sums += [square.sum() for square in squares]
    return weight * torch.stack(sums).sum()


def gradients_of(parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of parameters, for changes in place; a parameter without one gets zeros.

    >>> theta = torch.nn.Parameter(torch.ones(2))
    >>> gradients_of([theta])[0].add_(3)
    tensor([3., 3.])
    >>> theta.grad
    tensor([3., 3.])
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _chunks(tensors: Sequence[Tensor]) -> Iterator[slice]:
    """Ranges of consecutive tensors of together at most ``CHUNK`` elements; a larger one has a range of its own."""
    first, elements = 0, 0
    for index, tensor in enumerate(tensors):
        if index > first and elements + tensor.numel() > CHUNK:
            yield slice(first, index)
            first, elements = index, 0
        elements += tensor.numel()
    yield slice(first, len(tensors))
