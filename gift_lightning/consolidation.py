"""Penalties that pull weights to an anchor, as values and as gradients, and the importance of weights."""

from collections.abc import Sequence

import torch
from torch import Tensor

UNTOUCHED = 1e-6
"""Importance of a tensor that the loss does not reach, as in GIFT's code."""


@torch.no_grad()
def normalised_fisher(squares: Sequence[Tensor | None], shapes: Sequence[Tensor]) -> list[Tensor]:
    """Importance of each weight: its squared gradient, divided by the mean of the squares within its tensor.

    So every tensor has the mean importance 1, whatever the scale of its gradient (GIFT, "adaptive weight
    consolidation").

    Args:
        squares: squared gradients, or their mean over batches; ``None`` for a tensor without gradient.
        shapes: tensors whose shapes and dtypes the importances take, the parameters for instance.

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
def anchor_distance(
    parameters: Sequence[Tensor], anchors: Sequence[Tensor], importance: Sequence[Tensor] | None = None
) -> Tensor:
    """Squared distance ``sum F (theta - anchor)^2`` over all tensors, a scalar without gradient; ``F`` is 1 if not given.

    >>> anchor_distance([torch.tensor([1.0, 2.0])], [torch.tensor([0.0, 0.0])])
    tensor(5.)
    """
    squares = torch._foreach_pow(torch._foreach_sub(list(parameters), list(anchors)), 2)
    if importance is not None:
        torch._foreach_mul_(squares, list(importance))
    return torch.stack([square.sum() for square in squares]).sum()


@torch.no_grad()
def add_anchor_gradient(
    parameters: Sequence[Tensor],
    anchors: Sequence[Tensor],
    weight: float,
    importance: Sequence[Tensor] | None = None,
) -> None:
    """Add ``2 * weight * F * (theta - anchor)``, the gradient of ``weight * anchor_distance``, to each ``.grad``.

    A parameter without a gradient gets one. No graph is built: the gradient of a quadratic needs no backward pass.

    >>> theta = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> add_anchor_gradient([theta], [torch.tensor([0.0, 0.0])], weight=0.5)
    >>> theta.grad
    tensor([1., 2.])
    """
    differences = torch._foreach_sub(list(parameters), list(anchors))
    if importance is not None:
        torch._foreach_mul_(differences, list(importance))
    torch._foreach_add_(gradients_of(parameters), differences, alpha=2 * weight)


def gradients_of(parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of parameters, to be changed in place; a parameter without one gets zeros."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
