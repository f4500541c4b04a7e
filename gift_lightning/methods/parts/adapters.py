"""Experts and routers in all blocks of a CLIP: which of them are active, learn, and are frozen."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gift_lightning.methods.parts.blocks import blocks_of
from gift_lightning.methods.parts.draws import Draws
from gift_lightning.methods.parts.experts import BlockExperts, ExpertSettings, Router, RouterMatrix
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
        routers: of finished tasks in each block.
        seed: of the initial weights.

    Attributes:
        blocks: the experts of each block, by tower.
        activation_counts: how often training has activated each expert in the current task, ``[blocks, E]``.
        times_frozen: in how many tasks an expert was among the most activated ones, ``[blocks, E]``; it is frozen from
            the first time on.
        step_activations: how often training on this rank has activated each expert since the last optimiser step,
            ``[blocks, E]``.

    Raises:
        InputError: a tower has no blocks that can take experts.
    """

    activation_counts: Tensor
    times_frozen: Tensor

    def __init__(self, model: nn.Module, towers: list[str], settings: ExpertSettings, routers: int, seed: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict()
        self.router: Router | None = None
        self.draws: Draws | None = None
        self._chosen: dict[tuple[str, int], Tensor] = {}
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
        return len(self.all_blocks[0].gate.finished)

    @contextmanager
    def routed(self, router: Router | None, draws: Draws | None = None) -> Iterator[None]:
        """Within it the CLIP has its experts. Those that the router that trains has activated are counted at its end.

        Args:
            router: which one activates them; ``None`` for the CLIP alone.
            draws: of a training step; without them there is neither gate noise nor dropout.
        """
        before = self.router, self.draws
        self.router, self.draws = router, draws
        try:
            yield
            if router == "current":  # all ranks have all texts: one counts them
                self._count_activations(texts=draws is None or draws.first == 0)
        finally:
            self.router, self.draws = before

    def output_of(self, tower: str, number: int, x: Tensor) -> Tensor | None:
        """The output of a block's experts for ``x [n, L, d]`` or ``[n, H, W, d]``; ``None`` without a router."""
        if self.router is None:
            return None
        block = self.get_submodule(f"blocks.{tower}.{number}")
        output, chosen = block(x, self.router, self.draws, (tower, number))
        assert isinstance(output, Tensor)
        if self.router == "current":
            self._chosen[tower, number] = chosen.flatten()
        return output

    def _count_activations(self, texts: bool) -> None:
        """Add those of a batch to ``step_activations``, a tower at a time."""
        self.step_activations = self.step_activations.to(self.activation_counts.device)
        for tower in self.blocks:
            rows = [self._numbers[key] for key in self._chosen if key[0] == tower]
            if rows and (tower == "image" or texts):
                chosen = torch.stack([self._chosen[key] for key in self._chosen if key[0] == tower])
                self.step_activations[rows[0] : rows[-1] + 1].scatter_add_(1, chosen, torch.ones_like(chosen))
        self._chosen.clear()

    def learning_rows(self, activations: Tensor) -> dict[Tensor, Tensor]:
        """Which experts ``[E]`` of each of their stacks learn from a step: the activated ones that are not frozen.

        The activations are counted, and the gradients of all other experts set to 0.

        Args:
            activations: of the experts in the step, over all ranks, ``[blocks, E]``.
        """
        self.activation_counts += activations
        self.step_activations = torch.zeros_like(activations)  # the other may be the same tensor
        idle = (activations == 0) | (self.times_frozen > 0)
        rows: dict[Tensor, Tensor] = {}
        for block, of_block, learning in zip(self.all_blocks, idle, ~idle, strict=True):
            for stack in block.experts:
                rows[stack] = learning
                if stack.grad is not None:
                    stack.grad.masked_fill_(of_block.view(-1, *[1] * (stack.ndim - 1)), 0)
        return rows

    def learned_rows(self) -> list[Tensor]:
        """What may change in a task: the experts that are not frozen, and the router that trains."""
        rows: list[Tensor] = []
        for block, times in zip(self.all_blocks, self.times_frozen.tolist(), strict=True):
            rows += [stack[expert] for stack in block.experts for expert, frozen in enumerate(times) if not frozen]
            rows += [matrix.current for matrix in block.routers]
        return rows

    @torch.no_grad()
    def begin_router(self) -> None:
        """Let the router that trains begin anew, with zeros."""
        for matrix in self._matrices():
            matrix.current.zero_()

    @torch.no_grad()
    def finish_router(self, number: int) -> None:
        """Store the router that trains as that of a finished task."""
        for matrix in self._matrices():
            matrix.finished[number] = matrix.current

    def _matrices(self) -> list[RouterMatrix]:
        return [matrix for block in self.all_blocks for matrix in block.routers]

    @torch.no_grad()
    def freeze(self, number: int) -> None:
        """Freeze the experts that the task has activated most, so many in each block, and count anew."""
        experts = top_experts(self.activation_counts, number)
        self.times_frozen.scatter_add_(1, experts, torch.ones_like(experts))
        self.activation_counts.zero_()

    def tensors(self, routers: int) -> dict[str, Tensor]:
        """All experts, and the first routers of finished tasks as stacks, by name."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.named_parameters():
            path, _, last = name.rpartition(".")
            if last == "finished":
                tensors[path] = parameter[:routers].detach()
            elif last != "current":
                tensors[name] = parameter.detach()
        return tensors

    def detach(self) -> None:
        """Take the experts out of the CLIP."""
        for hook in self._hooks:
            hook.remove()
