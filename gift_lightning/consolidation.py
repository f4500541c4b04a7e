"""Penalties that pull weights to an anchor, as values and as gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def anchor_distance(parameters: Sequence[Tensor], anchors: Sequence[Tensor]) -> Tensor:
    """Squared distance ``sum (theta - anchor)^2`` over all tensors, a scalar without gradient.

    >>> anchor_distance([torch.tensor([1.0, 2.0])], [torch.tensor([0.0, 0.0])])
    tensor(5.)
    """
    differences = torch._foreach_sub(list(parameters), list(anchors))
    return torch.stack([difference.square().sum() for difference in differences]).sum()


@torch.no_grad()
def add_anchor_gradient(parameters: Sequence[Tensor], anchors: Sequence[Tensor], weight: float) -> None:
    """Add ``2 * weight * (theta - anchor)``, the gradient of ``weight * anchor_distance``, to each ``.grad`` in place.

    A parameter without a gradient gets one. No graph is built: the gradient of a quadratic needs no backward pass.

    >>> theta = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> add_anchor_gradient([theta], [torch.tensor([0.0, 0.0])], weight=0.5)
    >>> theta.grad
    tensor([1., 2.])
    """
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    torch._foreach_add_(gradients, torch._foreach_sub(parameters, list(anchors)), alpha=2 * weight)
