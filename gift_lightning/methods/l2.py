"""Fine-tuning with a penalty on the distance to the weights before the task."""

from typing import Any

from torch.optim import Optimizer

from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.errors import InputError
from gift_lightning.methods.base import ContinualCLIP
from gift_lightning.numerics.consolidation import distance_to_anchor, pull_to_anchor


class L2(ContinualCLIP):
    """Every weight is pulled back to where it stood when the task began.

    loss = CE + l2 * sum (theta - theta_start)^2

    A copy of the weights before the task is the anchor ``theta_start``. It is the "l2 baseline" of the
    published MTIL tables.

    Args:
        l2: weight of the penalty.
        kwargs: see ``ContinualCLIP``.
    """

    def __init__(self, l2: float = 1.0, **kwargs: Any) -> None:
        if l2 < 0:
            raise InputError(f"`model.l2` is {l2}: it cannot be negative.")
        super().__init__(**kwargs)
        self.l2 = l2
        self.anchor = FrozenCopy(self.clip.model)

    def on_task_start(self, task: int) -> None:
        self.anchor.copy_from(self.clip.model)

    def complete_gradient(self, optimizer: Optimizer) -> None:
        penalty = *self.anchor.pairs(self.clip.model), self.l2
        pull_to_anchor(*penalty)
        if self.is_logged:
            self.record("l2", distance_to_anchor(*penalty))
