"""The mixture of experts beside one block of a CLIP, and its routers."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from gift_lightning.errors import InputError
from gift_lightning.methods.parts.draws import Draws
from gift_lightning.numerics.mixture import mix_experts, router_logits, top_gates

Router: TypeAlias = int | Literal["current"]
"""The number of a finished task's router, or the one that trains."""


@dataclass(frozen=True)
class ExpertSettings:
    """Size and kind of the mixture in each block.

    Attributes:
        experts: E, their number.
        top_k: k, how many of them an image or a text activates.
        width: h, units of an expert's bottleneck.
        dropout: share of these units that training leaves out.
        noise: whether routers have a second matrix, of the gate noise.

    Raises:
        InputError: a value is impossible.
    """

    experts: int
    top_k: int
    width: int
    dropout: float
    noise: bool

    def __post_init__(self) -> None:
        for name, value in {"top_k": self.top_k, "width": self.width}.items():
            if value < 1:
                raise InputError(f"`model.{name}` is {value}: give at least 1.")
        if self.top_k > self.experts:
            raise InputError(
                f"`model.top_k` is {self.top_k}: there are {self.experts} of `model.experts` to choose from."
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"`model.dropout` is {self.dropout}: give a number from 0 to less than 1.")


class RouterMatrix(nn.Module):
    """A matrix of a block's routers: the one that trains, and those of finished tasks, which no step touches.

    Args:
        features: d, of a token.
        experts: E.
        routers: R, one for each task or one for all.

    Attributes:
        current: the one that trains, ``[d, E]``.
        finished: as they were at the end of their tasks, ``[R, d, E]``; frozen.
    """

    def __init__(self, features: int, experts: int, routers: int) -> None:
        super().__init__()
        self.current = Parameter(torch.zeros(features, experts))
        self.finished = Parameter(torch.zeros(routers, features, experts), requires_grad=False)

    def forward(self, router: Router) -> Tensor:
        """That of a router, ``[d, E]``."""
        return self.current if router == "current" else self.finished[router]


class BlockExperts(nn.Module):
    """The experts of one block, stacks of tensors, and its routers.

    ``E_i(x) = relu(x down_i' + down_bias_i) up_i + up_bias_i``; ``up`` begins at 0, so that a block gives what it gave
    without experts.

    Args:
        features: d, of a token.
        settings: of all blocks.
        routers: R, one for each task or one for all.
        generator: of the initial weights.

    Attributes:
        down, down_bias, up, up_bias: of all experts, ``[E, h, d]``, ``[E, h]``, ``[E, h, d]``, ``[E, d]``.
        gate: W_gate of the routers.
        gate_noise: W_noise of the routers; ``None`` without noise.
    """

    gate_noise: RouterMatrix | None

    def __init__(self, features: int, settings: ExpertSettings, routers: int, generator: torch.Generator) -> None:
        super().__init__()
        experts, width, bound = settings.experts, settings.width, features**-0.5
        first = [torch.empty(width, features).uniform_(-bound, bound, generator=generator) for _ in range(experts)]
        self.settings = settings
        self.down = Parameter(torch.stack(first))
        self.down_bias = Parameter(torch.zeros(experts, width))
        self.up = Parameter(torch.zeros(experts, width, features))
        self.up_bias = Parameter(torch.zeros(experts, features))
        self.gate = RouterMatrix(features, experts, routers)
        self.gate_noise = RouterMatrix(features, experts, routers) if settings.noise else None

    @property
    def experts(self) -> list[Parameter]:
        """The stacks of the experts, ``[E, ...]``."""
        return [self.down, self.down_bias, self.up, self.up_bias]

    @property
    def routers(self) -> list[RouterMatrix]:
        """The matrices of the routers."""
        return [self.gate] if self.gate_noise is None else [self.gate, self.gate_noise]

    def forward(self, x: Tensor, router: Router, draws: Draws | None, block: tuple[str, int]) -> tuple[Tensor, Tensor]:
        """The experts' output for tokens ``[n, L, d]`` or a map ``[n, H, W, d]``, and the activated experts ``[n, k]``.

        The router sees the first token, or the mean of a map.
        """
        settings, tokens = self.settings, x.flatten(1, -2)
        router_input = tokens[:, 0] if x.ndim == 3 else tokens.mean(1)
        gate_noise, noise, keep, rate = None, None, None, 0.0
        if draws is not None and self.gate_noise is not None:
            gate_noise = self.gate_noise(router)
            noise = draws.noise(block, len(x), settings.experts, x.device).to(gate_noise.dtype)
        logits = router_logits(router_input, self.gate(router), gate_noise, noise)
        chosen, gates = top_gates(logits, settings.top_k)
        if draws is not None and self.training and settings.dropout:
            rate = settings.dropout
            keep = draws.keep(block, chosen, tokens.shape[1], settings.width, rate)
        mixed = mix_experts(tokens, chosen, gates, self.down, self.down_bias, self.up, self.up_bias, keep, rate)
        return mixed.view_as(x), chosen
