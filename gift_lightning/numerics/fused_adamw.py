"""AdamW in one pass over the weights."""

from typing import Any

from torch.optim import AdamW


class FusedAdamW(AdamW):
    """torch's AdamW with its fused kernel, which all devices have that methods run on, in float32 and float64.

    It reads and writes weights and moments once, and needs no memory beside them. A state saved by torch's plain AdamW
    continues without the kernel.

    >>> import torch
    >>> theta = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = FusedAdamW([theta], lr=0.1, weight_decay=0.0)
    >>> theta.grad = torch.tensor([3.0, -3.0])
    >>> optimizer.step()
    >>> theta.detach()
    tensor([0.9000, 1.1000])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, fused=True, **kwargs)
        # a gradient scaler divides gradients before the step, and not in the kernel: methods add to them in between
        self._step_supports_amp_scaling = False
