"""A mixture of experts on tokens: the router's logits, the gates, and the experts' output (MoE-Adapters)."""

import torch
from torch import Tensor
from torch.nn import functional as F

SCALE = 0.1
"""Factor of an expert's output, as in the authors' code."""

NOISE_FLOOR = 0.01
"""The least standard deviation of the router's noise."""


def router_logits(x: Tensor, gate: Tensor, gate_noise: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
    """``x W_gate + noise * (softplus(x W_noise) + 0.01)``, never in half precision: ``[n, E]``.

    Args:
        x: the routers' input, ``[n, d]``.
        gate: W_gate, ``[d, E]``.
        gate_noise: W_noise, ``[d, E]``.
        noise: standard normal ``[n, E]``; ``None`` for the first term alone.

    >>> router_logits(torch.ones(1, 1), torch.tensor([[2.0, 3.0]]))
    tensor([[2., 3.]])
    """
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(gate.dtype)
        logits = x @ gate
        if gate_noise is None or noise is None:
            return logits
        return torch.addcmul(logits, noise, F.softplus(x @ gate_noise) + NOISE_FLOOR)


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
    rate: float = 0.0,
) -> Tensor:
    """``sum_i 0.1 gate_i (keep / (1 - rate) * relu(x down_i' + down_bias_i) up_i + up_bias_i)``, i its experts.

    The experts of a sample, side by side, are one bottleneck of ``k h`` units: two matrix products for each sample, in
    one batch, for any number of experts. The gradient of an expert that no sample chose is 0.

    Args:
        x: tokens ``[n, L, d]``.
        chosen: experts of each sample, ``[n, k]``.
        gates: of these, ``[n, k]``.
        down: of all experts, ``[E, h, d]``.
        down_bias: ``[E, h]``.
        up: ``[E, h, d]``.
        up_bias: ``[E, d]``.
        keep: which units dropout leaves in, ``[n, L, k, h]``; ``None`` without dropout.
        rate: the share that it leaves out.

    Returns:
        ``[n, L, d]``.

    >>> x, chosen, gates = torch.ones(1, 1, 1), torch.tensor([[1, 0]]), torch.tensor([[0.75, 0.25]])
    >>> down, up = torch.tensor([[[2.0]], [[4.0]]]), torch.ones(2, 1, 1)  # E = 2 experts, h = 1 unit, d = 1
    >>> mix_experts(x, chosen, gates, down, torch.zeros(2, 1), up, torch.zeros(2, 1))  # 0.1 (0.75 * 4 + 0.25 * 2)
    tensor([[[0.3500]]])
    """
    rows, (n, k), units = chosen.flatten(), chosen.shape, down.shape[1]

    def of_samples(weights: Tensor) -> Tensor:
        """The weights of each sample's experts, side by side: ``[n, k h, ...]``."""
        return weights.index_select(0, rows).view(n, -1, *weights.shape[2:])

    hidden = torch.baddbmm(of_samples(down_bias)[:, None], x, of_samples(down).transpose(1, 2)).relu()
    hidden, gates = hidden.view(n, -1, k, units), gates.to(hidden.dtype)
    if keep is not None:
        hidden = hidden * keep
    weighted = hidden * (SCALE / (1 - rate) * gates)[:, None, :, None]
    biases = (SCALE * gates)[:, None] @ up_bias.index_select(0, rows).view(n, k, -1)
    return torch.baddbmm(biases, weighted.flatten(2), of_samples(up))


def top_experts(counts: Tensor, number: int) -> Tensor:
    """The experts that were chosen most often, ``[blocks, number]`` of counts ``[blocks, E]``; of equals the first.

    >>> top_experts(torch.tensor([[3, 9, 3, 1]]), 2)
    tensor([[1, 0]])
    """
    return counts.argsort(dim=1, descending=True, stable=True)[:, :number]
