"""AdamW for stacks of tensors that learn one by one."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

_AT_ONCE = 16
"""Parameters in one call of ``torch._foreach_*``: few launches, and copies of few parameters in memory."""


class RowAdamW(AdamW):
    """AdamW for parameters ``[R, ...]`` whose rows learn independently: each row has its own number of steps.

    A row that is left out of a step stays: no decay, no momentum, and the step does not count for it. It is what AdamW
    does with a parameter whose gradient is ``None``. A gradient of 0 would move it.

    A step reads no number from the device: which rows move, and how often they did, are tensors there, and a stack is
    updated as a whole, by factors of its rows.

    Args:
        params: parameters, or groups of them, of one dimension or more; all of a group on one device.
        lr: learning rate.
        betas: of the two moments.
        eps: added to the root of the second.
        weight_decay: see ``AdamW``.

    Attributes:
        rows: for a parameter, which of its rows ``[R]`` the next step moves; one that is not named is a single row.

    >>> stack = torch.nn.Parameter(torch.zeros(2, 1))
    >>> optimizer = RowAdamW([stack], lr=0.1, weight_decay=0.0)
    >>> optimizer.rows = {stack: torch.tensor([True, False])}
    >>> stack.grad = torch.ones(2, 1)
    >>> optimizer.step()
    >>> stack.detach().flatten(), optimizer.state[stack]["step"]
    (tensor([-0.1000,  0.0000]), tensor([1., 0.]))
    """

    rows: dict[Tensor, Tensor] = {}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)  # its other options choose among its own updates

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            stacks = [stack for stack in group["params"] if stack.grad is not None]
            if stacks:
                factors = self._factors(stacks, group)
                for first in range(0, len(stacks), _AT_ONCE):
                    some = slice(first, first + _AT_ONCE)
                    self._update(stacks[some], [of_stacks[some] for of_stacks in factors], group["weight_decay"] != 0)
        return loss

    def _factors(self, stacks: list[Tensor], group: dict[str, Any]) -> list[list[Tensor]]:
        """Count the step, and give for each stack those factors of its rows, ``[R, 1, ...]``, that ``_update`` takes.

        With the step's rate and the corrections for the start,
        ``- rate * mean / (sqrt(square) / root + eps) = mean / (offset + scale * sqrt(square))``.
        """
        whole = torch.ones(1, dtype=torch.bool, device=stacks[0].device)
        rows = [self.rows.get(stack, whole) for stack in stacks]
        sizes, moves = list(map(len, rows)), torch.cat(rows)
        steps = moves + torch.cat([self._steps(stack, size) for stack, size in zip(stacks, sizes, strict=True)])
        for stack, of_stack in zip(stacks, steps.split(sizes), strict=True):
            self.state[stack]["step"] = of_stack
        steps = steps.double() if stacks[0].dtype == torch.float64 else steps
        lr, (beta1, beta2), share = group["lr"], group["betas"], moves.to(steps)
        correction, root = _one_minus_power(beta1, steps), _one_minus_power(beta2, steps).sqrt()
        per_lr = -correction / lr if lr else torch.full_like(steps, -math.inf)
        stays = ~moves if lr else torch.ones_like(moves)  # such a row divides by an infinity
        values = (
            1 - lr * group["weight_decay"] * share,
            (1 - beta1) * share,
            (1 - beta2) * share,
            (per_lr * group["eps"]).masked_fill(stays, -math.inf),
            (per_lr / root).masked_fill(stays, 0),
        )
        shapes = [(-1, *[1] * (stack.ndim - 1)) for stack in stacks]
        return [
            [of_stack.view(shape) for of_stack, shape in zip(value.to(stacks[0]).split(sizes), shapes, strict=True)]
            for value in values
        ]

    def _steps(self, stack: Tensor, rows: int) -> Tensor:
        """How often each row has moved, ``[R]``."""
        state = self.state[stack]
        if not state:
            state["step"] = torch.zeros(rows, device=stack.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(stack), torch.zeros_like(stack)
        steps: Tensor = state["step"].to(stack.device)  # those of a checkpoint are on the CPU
        return steps

    def _update(self, stacks: list[Tensor], factors: list[list[Tensor]], decays: bool) -> None:
        gradients: list[Any] = [stack.grad for stack in stacks]
        means, squares = ([self.state[stack][name] for stack in stacks] for name in ("exp_avg", "exp_avg_sq"))
        decay, mean_weights, square_weights, offsets, scales = factors
        if decays:
            torch._foreach_mul_(stacks, decay)
        torch._foreach_lerp_(means, gradients, mean_weights)
        scratch = torch._foreach_mul(gradients, gradients)
        torch._foreach_lerp_(squares, scratch, square_weights)
        torch._foreach_copy_(scratch, squares)
        torch._foreach_clamp_min_(scratch, torch.finfo(scratch[0].dtype).tiny)  # roots of 0 take a CPU far longer
        torch._foreach_sqrt_(scratch)
        torch._foreach_mul_(scratch, scales)  # and then add: on a CPU addcmul takes longer
        torch._foreach_add_(scratch, offsets)
        torch._foreach_addcdiv_(stacks, means, scratch)


def _one_minus_power(beta: float, steps: Tensor) -> Tensor:
    """``1 - beta ** steps``, exact where the power is close to 1."""
    return -torch.expm1(steps * (math.log(beta) if beta else -math.inf))
