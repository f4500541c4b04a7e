"""A mixture of experts on tokens: which experts an input is given to, how much each counts, what they make of it."""

import torch
from torch import Tensor
from torch.nn import functional as F

SCALE = 0.1
"""Factor of what an expert gives, as in the authors' code."""

NOISE_FLOOR = 0.01
"""The least standard deviation of the router's noise."""


def router_logits(x: Tensor, gate: Tensor, spread: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
    """``x gate + noise * (softplus(x spread) + 0.01)``, never in half precision.

    Args:
        x: what routers look at, ``[n, d]``.
        gate: of a router, ``[d, E]``.
        spread: its second matrix ``[d, E]``, for noise.
        noise: standard normal ``[n, E]``; ``None`` for the first term alone.

    >>> router_logits(torch.ones(1, 1), torch.tensor([[2.0, 3.0]]))
    tensor([[2., 3.]])
    """
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(gate.dtype)
        logits = x @ gate
        if spread is None or noise is None:
            return logits
        return logits + noise * (F.softplus(x @ spread) + NOISE_FLOOR)


def top_gates(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` experts with the largest logits ``[n, E]``, largest first, and the softmax over these: both ``[n, k]``.

    >>> chosen, gates = top_gates(torch.tensor([[0.0, 5.0, 5.0, 1.0]]), 2)
    >>> sorted(chosen[0].tolist()), gates
    ([1, 2], tensor([[0.5000, 0.5000]]))
    """
    values, chosen = logits.topk(k, dim=1)
    return chosen, values.softmax(1)


def mix_experts(
    x: Tensor,
    chosen: Tensor,
    gates: Tensor,
    down: Tensor,
    down_bias: Tensor,
    up: Tensor,
    up_bias: Tensor,
    keep: Tensor | None = None,
) -> Tensor:
    """``sum_i gate_i * 0.1 * (keep * relu(x down_i' + down_bias_i) up_i + up_bias_i)`` over each sample's own experts.

    The experts of a sample, side by side, are one bottleneck of ``k h`` units: two matrix products for each sample, in
    one batch, whatever number of experts there are. All experts are in the graph, so all get a gradient, which is 0 for
    those that no sample chose.

    Args:
        x: tokens ``[n, L, d]``.
        chosen: experts of each sample, ``[n, k]``.
        gates: of these, ``[n, k]``.
        down: of all experts, ``[E, h, d]``.
        down_bias: ``[E, h]``.
        up: ``[E, h, d]``.
        up_bias: ``[E, d]``.
        keep: factor of each unit, for dropout, ``[n, L, k, h]``.

    Returns:
        ``[n, L, d]``.
    """
    rows, (n, k), units = chosen.flatten(), chosen.shape, down.shape[1]

    def own(weights: Tensor) -> Tensor:
        return weights.index_select(0, rows).view(n, -1, *weights.shape[2:])

    hidden = torch.baddbmm(own(down_bias)[:, None], x, own(down).transpose(1, 2)).relu()
    if keep is not None:
        hidden = hidden * keep.flatten(2)
    factors = (SCALE * gates).to(hidden.dtype)
    biases = factors[:, None] @ up_bias.index_select(0, rows).view(n, k, -1)
    return torch.baddbmm(biases, hidden * factors.repeat_interleave(units, 1)[:, None], own(up))


def top_experts(counts: Tensor, number: int) -> Tensor:
    """The experts that were chosen most often, ``[blocks, number]`` of counts ``[blocks, E]``; of equals the first.

    >>> top_experts(torch.tensor([[3, 9, 3, 1]]), 2)
    tensor([[1, 0]])
    """
    return counts.argsort(dim=1, descending=True, stable=True)[:, :number]
