"""The random numbers of a step in which experts are trained."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gift_lightning.seeding import stream_seed


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step, for its whole batch: those of an image are the same on any rank.

    Texts, which all ranks have, are drawn the same for all.

    Attributes:
        seed: of the step.
        first: position of the first image here in the step's batch.
        total: images in the step's batch.
    """

    seed: int
    first: int
    total: int

    def noise(self, block: tuple[str, int], rows: int, experts: int, device: torch.device) -> Tensor:
        """Standard normal ``[rows, experts]`` for a block, named by its tower and its number there."""
        return self._drawn(torch.Tensor.normal_, "noise", block, rows, (experts,), device)

    def keep(self, block: tuple[str, int], chosen: Tensor, tokens: int, width: int, rate: float) -> Tensor:
        """Which units ``[n, tokens, k, width]`` of the experts dropout leaves in: all but a share ``rate`` of them.

        Args:
            block: as in ``noise``.
            chosen: the experts of each row, ``[n, k]``.
            tokens: of a row.
            width: of an expert.
            rate: of dropout.
        """
        shape = (tokens, chosen.shape[1], width)
        return self._drawn(torch.Tensor.uniform_, "keep", block, len(chosen), shape, chosen.device) >= rate

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
