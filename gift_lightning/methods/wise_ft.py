"""WiSE-FT after each task."""

from typing import Any, Literal

import torch
from torch import Tensor

from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.errors import InputError
from gift_lightning.methods.base import ContinualCLIP
from gift_lightning.numerics.fusion import interpolate


class WiSEFT(ContinualCLIP):
    """Fine-tuning, and after each task a step back towards the weights before it.

    loss = CE
    theta after a task = (1 - alpha) * theta_start + alpha * theta

    Between tasks nothing is stored but the weights, and with ``start: initial`` the initial ones.

    Reference: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, arXiv 2109.01903; after each task
    as the authors of ZSCL (arXiv 2303.06628) do.

    Args:
        alpha: weight of the trained model.
        start: the weights that it is mixed with: those before the task, or the initial ones.
        kwargs: see ``ContinualCLIP``.
    """

    def __init__(self, alpha: float = 0.8, start: Literal["last", "initial"] = "last", **kwargs: Any) -> None:
        if not 0 <= alpha <= 1:
            raise InputError(f"`model.alpha` is {alpha}: give a number from 0 to 1.")
        super().__init__(**kwargs)
        self.alpha, self.start_at = alpha, start
        self.start = FrozenCopy(self.clip)

    def on_task_start(self, task: int) -> None:
        if self.start_at == "last":
            self.start.copy_from(self.clip)

    @torch.no_grad()
    def on_task_end(self, task: int) -> None:
        weights: list[Tensor] = list(self.clip.parameters())
        torch._foreach_copy_(weights, interpolate(list(self.start.parameters()), weights, self.alpha))

    def stored_copies(self) -> list[FrozenCopy[Any]]:
        return [self.start] if self.start_at == "initial" else []
