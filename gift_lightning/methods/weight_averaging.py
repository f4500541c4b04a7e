"""Fine-tuning with an average of the weights that it passes through."""

from typing import Any, Literal

from lightning.pytorch import Callback

from callbacks.weight_average import WeightAverage
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.errors import InputError
from gift_lightning.methods.base import ContinualCLIP


class WeightAveraging(ContinualCLIP):
    """Fine-tuning whose weights are averaged on the way.

    loss = CE

    * ``mean``: theta after a task = mean of theta_start and of theta at steps 0, k, 2k, ... (ZSCL's weight ensemble
      alone); with ``pull``, theta_start is mixed into the mean each time, as in WiSE-FT.
    * ``start``: at these steps theta = (1 - pull) * theta + pull * theta_start.
    * ``last``: the same, with the theta of the time before instead of theta_start.

    Between tasks nothing is stored but the weights.

    Reference: Zheng et al., ICCV 2023, arXiv 2303.06628, whose code compares these.

    Args:
        average: which of them.
        every: k.
        pull: how much of the other weights is mixed in.
        kwargs: see ``ContinualCLIP``.
    """

    def __init__(
        self, average: Literal["mean", "start", "last"] = "mean", every: int = 100, pull: float = 0.0, **kwargs: Any
    ) -> None:
        if every < 1:
            raise InputError(f"`model.every` is {every}: give at least 1 step.")
        if not 0 <= pull <= 1:
            raise InputError(f"`model.pull` is {pull}: give a number from 0 to 1.")
        if average != "mean" and not pull:
            raise InputError(f"`model.average` '{average}' with pull 0 changes nothing: give pull a share, e.g. 0.1.")
        super().__init__(**kwargs)
        self.average = FrozenCopy(self.clip)
        self.start = FrozenCopy(self.clip) if average == "mean" and pull else None
        self.weight_average = WeightAverage(self.average, average, every, pull, self.start)

    def configure_callbacks(self) -> list[Callback]:
        return [self.weight_average]
