"""AdamW for stacks of tensors that learn one by one."""

from collections.abc import Callable, Iterator
from itertools import compress

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.adamw import adamw


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
            moving = [row for stack in group["params"] if stack.grad is not None for row in self._moving(stack)]
            if not moving:
                continue
            rows, gradients, means, squares, steps = map(list, zip(*moving, strict=True))
            beta1, beta2 = group["betas"]
            settings = {name: group[name] for name in ("lr", "weight_decay", "eps", "maximize", "foreach")}
            adamw(rows, gradients, means, squares, [], steps, amsgrad=False, beta1=beta1, beta2=beta2, **settings)
        return loss

    def _moving(self, stack: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Views of each row that moves, of its gradient, of both moments, and of its number of steps."""
        state, moves = self.state[stack], self.rows.get(stack)
        if not state:
            state["step"] = torch.zeros(len(stack))
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(stack), torch.zeros_like(stack)
        state["step"] = state["step"].cpu()  # AdamW computes with it as a number: no wait for the device
        assert stack.grad is not None
        tensors = stack, stack.grad, state["exp_avg"], state["exp_avg_sq"], state["step"]
        views = zip(*(tensor.unbind() for tensor in tensors), strict=True)
        return views if moves is None else compress(views, moves.tolist())
