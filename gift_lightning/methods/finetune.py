"""Plain fine-tuning, in sequence or each task by itself."""

from typing import Any

from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.methods.base import ContinualCLIP


class Finetune(ContinualCLIP):
    """All weights are fine-tuned on one task after the other, and nothing is done against forgetting.

    loss = CE

    Between tasks nothing is stored but the weights. With ``restart`` each task starts from the pre-trained weights
    instead: the diagonal of the accuracy matrix is then the upper bound of the accuracy on each task.

    Args:
        restart: start every task from the initial weights.
        kwargs: see ``ContinualCLIP``.
    """

    def __init__(self, restart: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initial = FrozenCopy(self.clip.model) if restart else None

    def on_task_start(self, task: int) -> None:
        if self.initial is not None:
            self.initial.copy_to(self.clip.model)

    def stored_copies(self) -> list[FrozenCopy[Any]]:
        return [] if self.initial is None else [self.initial]
