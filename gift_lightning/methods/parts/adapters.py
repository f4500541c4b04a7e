"""Experts and routers in all blocks of a CLIP: which of them are active, learn, and are frozen."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gift_lightning.methods.parts.blocks import blocks_of
from gift_lightning.methods.parts.draws import Draws
from gift_lightning.methods.parts.experts import BlockExperts, ExpertSettings
from gift_lightning.numerics.mixture import top_experts
from gift_lightning.seeding import stream_seed


class Adapters(nn.Module):
    """Experts and routers in all blocks of a CLIP, which itself stays unchanged.

    They work beside the MLP of a transformer's block, and after a block of a convolutional tower (``blocks.Block``).
    They are active within ``routed`` alone.

    Args:
        model: an open_clip model.
        towers: those that get experts, "image" and "text".
        settings: of the mixture.
        routers: in each block.
        seed: of the initial weights.

    Attributes:
        blocks: the experts of each block, by tower.
        activation_counts: how often training has activated each expert in the current task, ``[blocks, E]``.
        times_frozen: in how many tasks an expert was among the most activated ones, ``[blocks, E]``; it is frozen from
            the first time on.
        step_activations: how often this rank has activated each expert since the last optimiser step, ``[blocks, E]``.

    Raises:
        InputError: a tower has no blocks that can take experts.
    """

    activation_counts: Tensor
    times_frozen: Tensor

    def __init__(self, model: nn.Module, towers: list[str], settings: ExpertSettings, routers: int, seed: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict()
        self.router: int | None = None
        self.draws: Draws | None = None
        self._hooks: list[RemovableHandle] = []
        self._numbers: dict[tuple[str, int], int] = {}
        for tower in towers:
            blocks = blocks_of(model, tower)
            generator = torch.Generator().manual_seed(stream_seed(seed, "experts", tower))
            self.blocks[tower] = nn.ModuleList(BlockExperts(b.width, settings, routers, generator) for b in blocks)
            for number, block in enumerate(blocks):
                self._numbers[tower, number] = len(self._numbers)
                self._hooks += block.attach(partial(self.output_of, tower, number))
        shape = (len(self.all_blocks), settings.experts)
        self.register_buffer("activation_counts", torch.zeros(shape, dtype=torch.long))
        self.register_buffer("times_frozen", torch.zeros(shape, dtype=torch.long))
        self.step_activations = torch.zeros(shape, dtype=torch.long)

    @property
    def all_blocks(self) -> list[BlockExperts]:
        """The experts of every block, tower after tower."""
        return [block for block in self.blocks.modules() if isinstance(block, BlockExperts)]

    @property
    def routers(self) -> int:
        """R, their number in each block."""
        return len(self.all_blocks[0].gate)

    @contextmanager
    def routed(self, router: int | None, draws: Draws | None = None) -> Iterator[None]:
        """Within it the CLIP has its experts.

        Args:
            router: number of the router that activates them; ``None`` for the CLIP alone.
            draws: of a training step; without them there is neither gate noise nor dropout.
        """
        before = self.router, self.draws
        self.router, self.draws = router, draws
        try:
            yield
        finally:
            self.router, self.draws = before

    def output_of(self, tower: str, number: int, x: Tensor) -> Tensor | None:
        """The output of a block's experts for ``x [n, L, d]`` or ``[n, H, W, d]``; ``None`` without a router."""
        if self.router is None:
            return None
        block, row = self.get_submodule(f"blocks.{tower}.{number}"), self._numbers[tower, number]
        output, chosen = block(x, self.router, self.draws, (tower, number))
        assert isinstance(output, Tensor)
        # all ranks have all texts: they count once
        if self.training and self.draws is not None and (tower == "image" or self.draws.first == 0):
            self.step_activations, chosen = self.step_activations.to(x.device), chosen.flatten()
            self.step_activations[row].index_add_(0, chosen, torch.ones_like(chosen))
        return output

    def learning_rows(self, activations: Tensor, router: int) -> dict[Tensor, Tensor]:
        """Which rows ``[E]`` or ``[R]`` of each stack learn from a step: activated experts that are not frozen, and the
        task's router; on the CPU. The activations are counted, and the gradients of all other rows set to 0.

        Args:
            activations: of the experts in the step, over all ranks, ``[blocks, E]``.
            router: number of the task's router.
        """
        self.activation_counts += activations
        self.step_activations = torch.zeros_like(activations)  # the other may be the same tensor
        learns = (activations > 0) & (self.times_frozen == 0)
        of_task = torch.arange(self.routers, device=learns.device) == router
        for stack, learning in self._by_stack(learns, of_task).items():
            if stack.grad is not None:
                stack.grad.masked_fill_(~learning.view(-1, *[1] * (stack.ndim - 1)), 0)
        return self._by_stack(
            learns.cpu(), of_task.cpu()
        )  # the optimiser reads each: one wait for the device, not many

    def _by_stack(self, experts: Tensor, routers: Tensor) -> dict[Tensor, Tensor]:
        """Rows ``[blocks, E]`` of the experts and ``[R]`` of the routers, for each stack."""
        rows: dict[Tensor, Tensor] = {}
        for block, of_block in zip(self.all_blocks, experts, strict=True):
            rows |= dict.fromkeys(block.experts, of_block) | dict.fromkeys(block.routers, routers)
        return rows

    def learned_rows(self, router: int) -> list[Tensor]:
        """The rows that may change in a task: of the experts that are not frozen, and of the task's router."""
        rows: list[Tensor] = []
        for block, times in zip(self.all_blocks, self.times_frozen.tolist(), strict=True):
            rows += [stack[expert] for stack in block.experts for expert, frozen in enumerate(times) if not frozen]
            rows += [stack[router] for stack in block.routers]
        return rows

    @torch.no_grad()
    def freeze(self, number: int) -> None:
        """Freeze the experts that the task has activated most, so many in each block, and count anew."""
        experts = top_experts(self.activation_counts, number)
        self.times_frozen.scatter_add_(1, experts, torch.ones_like(experts))
        self.activation_counts.zero_()

    def tensors(self, routers: int) -> dict[str, Tensor]:
        """All experts and the first routers, by name."""
        of_routers = {id(stack) for block in self.all_blocks for stack in block.routers}
        named = self.named_parameters()
        return {name: (s[:routers] if id(s) in of_routers else s).detach() for name, s in named}

    def detach(self) -> None:
        """Take the experts out of the CLIP."""
        for hook in self._hooks:
            hook.remove()
