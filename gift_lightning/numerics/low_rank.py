"""Low-rank adaptation: small matrices whose products are added to the weights of a frozen model."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import Generator, Tensor, nn

from gift_lightning.errors import InputError


@dataclass
class LoRA:
    """Settings of low-rank adaptation.

    Attributes:
        rank: r, columns of ``B`` and rows of ``A``; at most the sides of a weight.
        scale: factor of ``B A``; other programs set alpha = scale * r.
        targets: patterns of the names of the adapted weights (``visual.*``, ``*.attn.*``).

    Raises:
        InputError: the rank is below 1.

    >>> LoRA(rank=4, targets=["visual.*"])
    LoRA(rank=4, scale=1.0, targets=['visual.*'])
    """

    rank: int = 16
    scale: float = 1.0
    targets: list[str] = field(default_factory=lambda: ["*"])

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"The rank of LoRA is {self.rank}: give at least 1.")


class LowRank(nn.Module):
    """The additions of LoRA to the weights of a model: ``scale * B A``, with ``B [out, r]`` of zeros and ``A [r, in]``.

    It adapts the weight matrices of linear layers, of convolutions (as matrices ``[out, in * height * width]``, the
    patch embedding among them), and the fused projection of an attention, whose query, key and value share one ``A``.
    It adapts no embedding tables, biases and norms, and not the last projections of open_clip's transformers, which
    belong to no layer.

    The model does not change: its user puts ``weight + addition`` in the place of a weight
    (``torch.func.functional_call``). So parameters keep their names, and it also works for an attention that reads its
    weights without calling its layers.

    Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.

    Args:
        model: the model with these weights.
        settings: rank, scale and targets.

    Raises:
        InputError: a pattern matches no weight.

    >>> additions = LowRank(nn.Linear(3, 2), LoRA(rank=1))
    >>> additions.reset(Generator().manual_seed(0))
    >>> additions()["weight"].shape, additions()["weight"].abs().max().item()
    (torch.Size([2, 3]), 0.0)
    """

    def __init__(self, model: nn.Module, settings: LoRA) -> None:
        super().__init__()
        weights = _matrices(model)
        for pattern in settings.targets:
            if not any(fnmatchcase(name, pattern) for name in weights):
                raise InputError(f"LoRA has no weight '{pattern}' to adapt: one of them is '{next(iter(weights))}'.")
        matched = (name for name in weights if any(fnmatchcase(name, pattern) for pattern in settings.targets))
        self.shapes = {name: weights[name].shape for name in matched}
        self.scale = settings.scale
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        for shape in self.shapes.values():
            rows, columns = shape[0], shape[1:].numel()
            rank = min(settings.rank, rows, columns)
            self.down.append(nn.Parameter(torch.zeros(rank, columns)))
            self.up.append(nn.Parameter(torch.zeros(rows, rank)))

    def forward(self) -> dict[str, Tensor]:
        """The addition to each weight, by the name and in the shape of the weight."""
        pairs = zip(self.shapes.items(), self.down, self.up, strict=True)
        return {name: self.scale * (up @ down).view(shape) for (name, shape), down, up in pairs}

    @torch.no_grad()
    def reset(self, generator: Generator) -> None:
        """Set ``B`` to zeros and draw ``A`` as the weights of a linear layer, with a generator on the CPU."""
        for down, up in zip(self.down, self.up, strict=True):
            bound = down.shape[1] ** -0.5
            drawn = torch.empty(down.shape, dtype=down.dtype).uniform_(-bound, bound, generator=generator)
            down.copy_(drawn)
            up.zero_()


def _matrices(model: nn.Module) -> dict[str, Tensor]:
    """Weights of linear layers, convolutions and fused attention projections, by name."""
    weights: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        names = []
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            names = ["weight"]
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            names = ["in_proj_weight"]
        weights.update({f"{path}.{name}" if path else name: getattr(module, name) for name in names})
    return weights
