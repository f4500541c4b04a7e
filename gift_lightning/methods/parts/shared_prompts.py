"""Class prompts in a step on several ranks: each rank encodes some of them, and all have the features of all."""

from collections.abc import Callable

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather

WORTH = 8
"""Prompts of a rank from which on it pays to share: fewer are encoded faster than they are sent."""


def encode_shared(encode: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Features ``[n, D]`` of ``n`` prompts, the same on all ranks and for gradients; all ranks have to call it.

    A rank's share gets the sum of the gradients that all ranks have for it, so that the mean of the weights' gradients
    over ranks, which DDP takes, is that of ranks which encode all prompts.

    Args:
        encode: from token ids ``[m, L]`` to features ``[m, D]``, each row by itself.
        tokens: ids ``[n, L]``, equal on all ranks.
    """
    ranks = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    share = -(-len(tokens) // ranks)
    if ranks == 1 or share < WORTH:
        return encode(tokens)
    first = distributed.get_rank() * share
    own = torch.arange(first, first + share, device=tokens.device).clamp(max=len(tokens) - 1)  # shares of one size
    return torch.cat(all_gather(encode(tokens[own]).contiguous()))[: len(tokens)]
