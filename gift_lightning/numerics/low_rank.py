"""Low-rank adaptation: small matrices whose products are added to the weights of a frozen model."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import Generator, Tensor, nn

from gift_lightning.errors import InputError


@dataclass
class LoRA:
    """What low-rank adaptation trains.

    Attributes:
        rank: r, columns of the one matrix and rows of the other; a smaller weight has what rank it can.
        scale: factor of their product; alpha / r where alpha is what others name it by.
        targets: which weights, by patterns of their names in the model (``visual.*``, ``*.attn.*``).
    """

    rank: int = 16
    scale: float = 1.0
    targets: list[str] = field(default_factory=lambda: ["*"])

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"The rank of LoRA is {self.rank}: give at least 1.")


class LowRank(nn.Module):
    """What LoRA adds to weights of a model: ``scale * B A``, ``B [out, r]`` of zeros at first and ``A [r, in]``.

    It adapts the matrices that activations are multiplied with: those of linear layers, of convolutions (as matrices
    ``[out, in * height * width]``, the patch embedding among them), and the fused projection of an attention, whose
    query, key and value share one ``A``. In these a low rank is known to suffice; embedding tables are looked up, not
    multiplied, and biases and norms are too small to be worth it. Nor does it adapt the last projections of open_clip's
    transformers, which are parameters of no layer.

    The model is not touched: whoever uses it puts ``weight + addition`` in the place of a weight
    (``torch.func.functional_call``). So its parameters keep their names, and an attention that reads its weights
    itself instead of calling its layers is served as well.

    Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685.

    Args:
        model: whose weights.
        settings: rank, scale and targets.

    Raises:
        InputError: a pattern names no weight.
    """

    def __init__(self, model: nn.Module, settings: LoRA) -> None:
        super().__init__()
        weights = _matrices(model)
        for pattern in settings.targets:
            if not any(fnmatchcase(name, pattern) for name in weights):
                raise InputError(f"LoRA finds no weight named '{pattern}': one of them is '{next(iter(weights))}'.")
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
        """What is added to each weight, by its name and in its shape."""
        pairs = zip(self.shapes.items(), self.down, self.up, strict=True)
        return {name: self.scale * (up @ down).view(shape) for (name, shape), down, up in pairs}

    @torch.no_grad()
    def reset(self, generator: Generator) -> None:
        """Add nothing again: zeros, and matrices drawn anew as those of a linear layer; the generator is on the CPU."""
        for down, up in zip(self.down, self.up, strict=True):
            bound = down.shape[1] ** -0.5
            drawn = torch.empty(down.shape, dtype=down.dtype).uniform_(-bound, bound, generator=generator)
            down.copy_(drawn)
            up.zero_()


def _matrices(model: nn.Module) -> dict[str, Tensor]:
    """Weights of linear layers, convolutions and fused attention projections, by name."""
    found = {}
    for path, module in model.named_modules():
        names = []
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            names = ["weight"]
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            names = ["in_proj_weight"]
        found.update({f"{path}.{name}" if path else name: getattr(module, name) for name in names})
    return found
