"""Adapters in the blocks of a CLIP: a mixture of experts beside each block, and routers that choose among them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter, ParameterList

from gift_lightning.errors import InputError
from gift_lightning.methods.parts.blocks import blocks_of
from gift_lightning.numerics.mixture import mix_experts, router_logits, top_experts, top_gates
from gift_lightning.seeding import stream_seed


@dataclass(frozen=True)
class ExpertSettings:
    """Size and kind of the mixture in each block.

    Attributes:
        experts: how many there are.
        top_k: how many of them an image or a text is given to.
        width: units of an expert's bottleneck.
        dropout: share of these units that training leaves out.
        noise: whether routers have a second matrix, which adds noise to their choice.

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


@dataclass(frozen=True)
class Draws:
    """What chance decides in one step, for the whole batch of the step: an image's share is the same on any rank.

    Texts, which all ranks have, are drawn the same for all.

    Attributes:
        seed: of the step.
        first: which image of the step's batch is the first one here.
        total: images in the step's batch.
    """

    seed: int
    first: int
    total: int

    def noise(self, block: tuple[str, int], rows: int, experts: int, device: torch.device) -> Tensor:
        """Standard normal ``[rows, experts]`` for a block, named by its tower and its number there."""
        return self._drawn(torch.Tensor.normal_, "noise", block, rows, (experts,), device)

    def keep(self, block: tuple[str, int], chosen: Tensor, tokens: int, width: int, rate: float) -> Tensor:
        """Factors ``[n, tokens, k, width]`` of the experts' units: 0 for a share ``rate`` of them, else 1 / (1 - rate).

        Args:
            block: as in ``noise``.
            chosen: the experts of each row, ``[n, k]``.
            tokens: of a row.
            width: of an expert.
            rate: of dropout.
        """
        shape = (tokens, chosen.shape[1], width)
        chances = self._drawn(torch.Tensor.uniform_, "keep", block, len(chosen), shape, chosen.device)
        return (chances >= rate) / (1 - rate)

    def _drawn(
        self,
        fill: Callable[..., Tensor],
        purpose: str,
        block: tuple[str, int],
        rows: int,
        shape: tuple[int, ...],
        device: torch.device,
    ) -> Tensor:
        first, total = (self.first, self.total) if block[0] == "image" else (0, rows)
        generator = torch.Generator(device).manual_seed(stream_seed(self.seed, purpose, *block))
        return fill(torch.empty(total, *shape, device=device), generator=generator)[first : first + rows]


class BlockExperts(nn.Module):
    """The experts of one block, and its routers.

    Experts begin with 0 at their ends, so that a block is what it was before. Each is a set of tensors of its own: an
    optimiser leaves out those of an expert that nobody chose.

    Args:
        features: of a token.
        settings: of all blocks.
        routers: how many.
        generator: of the initial weights.
    """

    def __init__(self, features: int, settings: ExpertSettings, routers: int, generator: torch.Generator) -> None:
        super().__init__()
        experts, bound = range(settings.experts), features**-0.5
        width, matrix = settings.width, (features, settings.experts)

        def first() -> Tensor:
            return torch.empty(width, features).uniform_(-bound, bound, generator=generator)

        self.settings = settings
        self.down = ParameterList([Parameter(first()) for _ in experts])
        self.down_bias = ParameterList([Parameter(torch.zeros(width)) for _ in experts])
        self.up = ParameterList([Parameter(torch.zeros(width, features)) for _ in experts])
        self.up_bias = ParameterList([Parameter(torch.zeros(features)) for _ in experts])
        self.gate = ParameterList([Parameter(torch.zeros(matrix)) for _ in range(routers)])
        self.spread = ParameterList([Parameter(torch.zeros(matrix)) for _ in range(routers * settings.noise)])

    def forward(self, x: Tensor, route: int, draws: Draws | None, block: tuple[str, int]) -> tuple[Tensor, Tensor]:
        """What the experts add to tokens ``[n, L, d]`` or a map ``[n, H, W, d]``, and who they are: ``[n, k]``.

        The router looks at the first token, or at the mean of a map.
        """
        settings, tokens = self.settings, x.flatten(1, -2)
        looked_at = tokens[:, 0] if x.ndim == 3 else tokens.mean(1)
        # all routers and experts are in the graph, for DDP waits for the gradients of all
        gate, spread, noise, keep = torch.stack(list(self.gate))[route], None, None, None
        if draws is not None and settings.noise:
            spread = torch.stack(list(self.spread))[route]
            noise = draws.noise(block, len(x), settings.experts, x.device).to(gate.dtype)
        chosen, gates = top_gates(router_logits(looked_at, gate, spread, noise), settings.top_k)
        if draws is not None and self.training and settings.dropout:
            keep = draws.keep(block, chosen, tokens.shape[1], settings.width, settings.dropout).to(tokens.dtype)
        experts = (self.down, self.down_bias, self.up, self.up_bias)
        down, down_bias, up, up_bias = [torch.stack(list(part)) for part in experts]
        return mix_experts(tokens, chosen, gates, down, down_bias, up, up_bias, keep).view_as(x), chosen

    def expert(self, index: int) -> list[Parameter]:
        """The weights of an expert."""
        return [self.down[index], self.down_bias[index], self.up[index], self.up_bias[index]]

    def router(self, index: int) -> list[Parameter]:
        """The matrices of a router."""
        return [part[index] for part in (self.gate, self.spread) if len(part)]


class Adapters(nn.Module):
    """Experts and routers in all blocks of a CLIP, which itself stays as it is.

    They work beside the MLP of a transformer's block, and after a block of a convolutional tower (``blocks.Block``).
    Nothing is added until ``routed`` says which router is asked.

    Args:
        model: an open_clip model.
        towers: those that get experts, "image" and "text".
        settings: of the mixture.
        routers: in each block.
        seed: of the initial weights.

    Attributes:
        counts: how often training has chosen each expert in the current task, ``[blocks, E]``.
        listed: in how many tasks an expert was among the most chosen ones; such an expert is frozen.
        used: how often this rank has chosen each expert since the last optimiser step.

    Raises:
        InputError: a tower has no blocks that can take experts.
    """

    counts: Tensor
    listed: Tensor

    def __init__(self, model: nn.Module, towers: list[str], settings: ExpertSettings, routers: int, seed: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict()
        self.route: int | None = None
        self.draws: Draws | None = None
        self._hooks: list[Any] = []
        self._rows: dict[tuple[str, int], int] = {}
        for tower in towers:
            found = blocks_of(model, tower)
            generator = torch.Generator().manual_seed(stream_seed(seed, "experts", tower))
            self.blocks[tower] = nn.ModuleList(BlockExperts(b.width, settings, routers, generator) for b in found)
            for number, block in enumerate(found):
                self._rows[tower, number] = len(self._rows)
                self._hooks += block.attach(partial(self.added, tower, number))
        shape = (len(self.all_blocks), settings.experts)
        self.register_buffer("counts", torch.zeros(shape, dtype=torch.long))
        self.register_buffer("listed", torch.zeros(shape, dtype=torch.long))
        self.used = torch.zeros(shape, dtype=torch.long)

    @property
    def all_blocks(self) -> list[Any]:
        """The experts of every block, tower after tower."""
        return [block for tower in self.blocks.values() for block in tower]  # type: ignore[union-attr, attr-defined]

    @contextmanager
    def routed(self, route: int | None, draws: Draws | None = None) -> Iterator[None]:
        """Within it the CLIP works with its experts, chosen by a router of this number; ``None``: without them.

        Args:
            route: number of the routers.
            draws: of a training step; without them there is neither noise nor dropout.
        """
        before = self.route, self.draws
        self.route, self.draws = route, draws
        try:
            yield
        finally:
            self.route, self.draws = before

    def added(self, tower: str, number: int, x: Tensor) -> Tensor | None:
        """What the experts of a block make of ``x``; ``None`` without a route."""
        if self.route is None:
            return None
        block: Any = self.blocks[tower][number]  # type: ignore[index]
        result, chosen = block(x, self.route, self.draws, (tower, number))
        # all ranks have all texts: they count once
        if self.training and self.draws is not None and (tower == "image" or self.draws.first == 0):
            self.used, chosen = self.used.to(x.device), chosen.flatten()
            self.used[self._rows[tower, number]].index_add_(0, chosen, torch.ones_like(chosen))
        return result

    def settle(self, used: Tensor, route: int) -> None:
        """Count what a step of all ranks has used ``[blocks, E]``; only this learns from it, and only if not frozen.

        Whatever else got a gradient, of 0 if nobody chose it, loses it: an optimiser would move it by its momentum.
        """
        self.counts += used
        self.used = torch.zeros_like(used)  # the other may be the same tensor
        learns = ((used > 0) & (self.listed == 0)).tolist()
        for block, row in zip(self.all_blocks, learns, strict=True):
            idle = [block.expert(index) for index, moves in enumerate(row) if not moves]
            idle += [block.router(index) for index in range(self.routers) if index != route]
            for parameter in chain.from_iterable(idle):
                parameter.grad = None

    def trained(self, route: int) -> list[Parameter]:
        """What may change in a task: the experts that are not frozen, and the task's router."""
        parts: list[list[Parameter]] = []
        for block, row in zip(self.all_blocks, self.listed.tolist(), strict=True):
            parts += [block.expert(index) for index, times in enumerate(row) if times == 0] + [block.router(route)]
        return list(chain.from_iterable(parts))

    @torch.no_grad()
    def freeze(self, number: int) -> None:
        """List the experts that the task has used most, so many in each block, and count anew."""
        chosen = top_experts(self.counts, number)
        self.listed.scatter_add_(1, chosen, torch.ones_like(chosen))
        self.counts.zero_()

    def kept(self, routers: int) -> dict[str, Tensor]:
        """All experts and the first routers, by name."""
        later = tuple(f".{kind}.{index}" for kind in ("gate", "spread") for index in range(routers, self.routers))
        return {name: weight.detach() for name, weight in self.named_parameters() if not name.endswith(later)}

    @property
    def routers(self) -> int:
        """How many there are in each block."""
        return len(self.all_blocks[0].gate)

    def detach(self) -> None:
        """Take the experts out of the CLIP."""
        for hook in self._hooks:
            hook.remove()
