"""Penalties that pull weights to an anchor, as value and gradient, and the importance of weights."""

from collections.abc import Sequence

import torch
from torch import Tensor

UNTOUCHED = 1e-6
"""Importance of a tensor that the loss does not reach, as in GIFT's code."""


@torch.no_grad()
def normalised_fisher(squares: Sequence[Tensor | None], shapes: Sequence[Tensor]) -> list[Tensor]:
    """Importance ``F`` of each weight: its squared gradient, divided by the mean of the squares within its tensor.

    Every tensor has the mean importance 1, whatever the scale of its gradient. A tensor without a gradient has the
    importance ``UNTOUCHED``.

    Reference: Wu et al., "Synthetic Data is an Elegant GIFT for Continual Vision-Language Models" (adaptive weight
    consolidation), CVPR 2025, arXiv 2503.04229.

    Args:
        squares: squared gradients, or their mean over batches, of any shapes; ``None`` for a tensor without gradient.
        shapes: as many tensors with the shapes and dtypes of the result, the parameters for instance.

    Returns:
        A tensor for each of ``shapes``.

    >>> normalised_fisher([torch.tensor([1.0, 3.0])], [torch.empty(2)])
    [tensor([0.5000, 1.5000])]
    """
    return [
        torch.full_like(like, UNTOUCHED)
        if square is None
        else square / square.mean().clamp(min=torch.finfo(square.dtype).tiny)
        for square, like in zip(squares, shapes, strict=True)
    ]


@torch.no_grad()
def pull_to_anchor(
    parameters: Sequence[Tensor],
    anchors: Sequence[Tensor],
    weight: float,
    importance: Sequence[Tensor] | None = None,
) -> Tensor:
    """Add the gradient of ``weight * sum F (theta - anchor)^2`` to each ``.grad``; return this penalty, a scalar.

    A parameter without a gradient gets one. No graph is built: the gradient of a quadratic needs no backward pass.

    Args:
        parameters: theta, tensors of any shapes.
        anchors: as many tensors of the same shapes.
        weight: of the penalty.
        importance: F, likewise, taken as constant; 1 if not given.

    Returns:
        The penalty, a scalar ``[]`` without graph.

    >>> theta = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> pull_to_anchor([theta], [torch.tensor([0.0, 0.0])], weight=0.5)
    tensor(2.5000)
    >>> theta.grad
    tensor([1., 2.])
    """
    differences = torch._foreach_sub(list(parameters), list(anchors))
    weighted = differences if importance is None else torch._foreach_mul(differences, list(importance))
    torch._foreach_add_(gradients_of(parameters), weighted, alpha=2 * weight)
    squares = torch._foreach_mul(differences, weighted)
    return weight * torch.stack([square.sum() for square in squares]).sum()


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
