"""Copies of a model that never train: teachers, anchors, averages, starting points."""

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)


class FrozenCopy(nn.Module, Generic[_Module]):
    """A copy of a module that never trains: frozen parameters, always in evaluation mode.

    Its weights are parameters and not buffers, because DDP sends all buffers to all ranks at every step.

    Args:
        module: the module to copy.
    """

    def __init__(self, module: _Module) -> None:
        super().__init__()
        self.module: _Module = deepcopy(module).requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenCopy[_Module]":
        return super().train(False)

    def pairs(self, module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
        """The trained parameters of ``module`` and, in the same order and shapes, their frozen counterparts."""
        both = [
            pair for pair in zip(module.parameters(), self.module.parameters(), strict=True) if pair[0].requires_grad
        ]
        return [trained for trained, _ in both], [frozen for _, frozen in both]

    @torch.no_grad()
    def copy_from(self, module: nn.Module) -> None:
        """Copy the weights of ``module`` into this copy."""
        torch._foreach_copy_(list(self.module.parameters()), list(module.parameters()))

    @torch.no_grad()
    def fill(self, values: list[Tensor], module: nn.Module) -> None:
        """Copy values for the trained parameters of ``module`` into this copy, in their order and shapes."""
        torch._foreach_copy_(self.pairs(module)[1], values)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Copy the weights of this copy into ``module``."""
        torch._foreach_copy_(list(module.parameters()), list(self.module.parameters()))
