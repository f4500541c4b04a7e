"""AdamW for stacks of tensors that learn one by one."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW


class RowAdamW(AdamW):
    """AdamW for parameters ``[R, ...]`` whose rows learn independently: each row has its own number of steps.

    A row that is left out of a step stays: no decay, no momentum, and the step does not count for it. It is what AdamW
    does with a parameter whose gradient is ``None``. A gradient of 0 would move it.

    Attributes:
        rows: for a parameter, which of its rows ``[R]`` the next step moves; all rows of one that is not named.

    >>> stack = torch.nn.Parameter(torch.zeros(2, 1))
    >>> optimizer = RowAdamW([stack], lr=0.1, weight_decay=0.0)
    >>> optimizer.rows = {stack: torch.tensor([True, False])}
    >>> stack.grad = torch.ones(2, 1)
    >>> optimizer.step()
    >>> stack.detach().flatten(), optimizer.state[stack]["step"]
    (tensor([-0.1000,  0.0000]), tensor([1., 0.]))
    """

    rows: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for stack in group["params"]:
                if stack.grad is not None:
                    self._step(stack, stack.grad, group)
        return loss

    def _step(self, stack: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2) = self.state[stack], group["betas"]
        if not state:
            state["step"] = torch.zeros(len(stack), device=stack.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(stack), torch.zeros_like(stack)
        rows = self.rows.get(stack, torch.ones(len(stack), dtype=torch.bool, device=stack.device))
        state["step"] = state["step"].to(stack.device) + rows
        steps = state["step"].clamp(min=1).to(torch.promote_types(stack.dtype, torch.float32))

        def of_rows(values: Tensor) -> Tensor:
            return values.view(-1, *[1] * (stack.ndim - 1))

        moves = of_rows(rows.to(stack.dtype))
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(gradient, (1 - beta1) * moves)
        square.lerp_(gradient.square(), (1 - beta2) * moves)
        unbiased = [of_rows(-torch.expm1(steps * math.log(beta))).to(stack.dtype) for beta in (beta1, beta2)]
        if group["weight_decay"]:
            stack.mul_(1 - group["lr"] * group["weight_decay"] * moves)
        size = square.sqrt().div_(unbiased[1].sqrt()).add_(group["eps"])
        stack.addcdiv_(mean * (-group["lr"] * moves / unbiased[0]), size)
