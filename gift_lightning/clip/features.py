"""Features of images and texts by an open_clip model, as functions that can be compiled."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gift_lightning.clip.text import TextTower


def image_features(model: nn.Module, images: Tensor) -> Tensor:
    """Unit features ``[n, D]`` of normalised images ``[n, 3, H, W]``."""
    return _unit(model.visual(images))  # type: ignore[operator]


def text_features(model: nn.Module, tokens: Tensor) -> Tensor:
    """Unit features ``[n, D]`` of token ids ``[n, L]``; a causal tower takes any ``L`` up to its context."""
    tower = TextTower(model)
    return _unit(tower.encode(tower.embed(tokens), tokens) if tower.can_be_cut else model.encode_text(tokens))  # type: ignore[operator]


def embedding_features(model: nn.Module, embeddings: Tensor, tokens: Tensor) -> Tensor:
    """Unit features ``[n, D]`` of token embeddings ``[n, L, W]`` of a causal tower, in the places of ids ``[n, L]``."""
    return _unit(TextTower(model).encode(embeddings, tokens))


def compiled_features(function: Callable[..., Tensor], model: nn.Module, *inputs: Tensor) -> Tensor:
    """Unit features ``[n, D]`` by one of these functions, from a graph that is compiled once for all models of a kind.

    The image tower is compiled for each size of a batch: training has one or two. The text tower is compiled for any
    number of texts of any length, for every task has its own; a single text is compiled for itself.
    """
    if function is not image_features:
        inputs = tuple(tensor.contiguous() for tensor in inputs)  # a graph belongs to strides, too
        for tensor in inputs:
            torch._dynamo.maybe_mark_dynamic(tensor, [0, 1])
    # within DDP's forward pass dynamo would cut graphs where DDP's messages end, whose sizes it would have to guess
    with torch._dynamo.config.patch(optimize_ddp=False):
        return _compiled(function)(model, *inputs)


@cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(function, dynamic=False)  # but for what is marked: graphs depend on no earlier batch


def _unit(features: Tensor) -> Tensor:
    """Features of length 1, in float32 or better."""
    return F.normalize(features if features.dtype == torch.float64 else features.float(), dim=-1)
