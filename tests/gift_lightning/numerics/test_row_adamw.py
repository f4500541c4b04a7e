"""AdamW on stacks against torch's AdamW on the rows, each a parameter of its own."""

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW

from gift_lightning.numerics.row_adamw import RowAdamW

SETTINGS = {"lr": 0.05, "betas": (0.9, 0.98), "weight_decay": 0.1}


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("betas", [(0.9, 0.98), (0.0, 0.98), (0.9, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("shape", [(4, 3, 2), (4,)])
def test_rows_learn_as_parameters_of_their_own(shape: tuple[int, ...], betas: tuple[float, float]) -> None:
    stack, rows = Parameter(drawn(0, *shape)), [Parameter(row) for row in drawn(0, *shape)]
    settings = SETTINGS | {"betas": betas}
    ours, theirs = RowAdamW([stack], **settings), AdamW(rows, **settings)
    for step in range(12):
        moves = drawn(100 + step, 4) > 0
        moves[3] = False  # one that never learns
        stack.grad = drawn(200 + step, *shape) * (step % 5 != 2)  # a gradient of 0 is one
        for row, parameter in enumerate(rows):
            parameter.grad = stack.grad[row].clone() if moves[row] else None
        ours.rows = {stack: moves}
        if step == 6:  # resumed
            state = ours.state_dict()
            ours = RowAdamW([stack], lr=1.0)
            ours.load_state_dict(state)
            ours.rows = {stack: moves}
        before = stack.detach().clone()
        ours.step()
        theirs.step()
        assert torch.equal(stack[~moves], before[~moves])
        torch.testing.assert_close(stack, torch.stack(list(rows)), rtol=1e-14, atol=1e-14)


def test_all_rows_of_a_stack_learn_unless_some_are_named() -> None:
    stack, whole = Parameter(drawn(0, 4, 3)), Parameter(drawn(0, 4, 3))
    for optimizer, parameter in ((RowAdamW([stack], **SETTINGS), stack), (AdamW([whole], **SETTINGS), whole)):
        for step in range(3):
            parameter.grad = drawn(step, 4, 3)
            optimizer.step()
    torch.testing.assert_close(stack, whole, rtol=0, atol=1e-14)
