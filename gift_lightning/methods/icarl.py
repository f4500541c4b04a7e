"""iCaRL: exemplars of earlier tasks."""

from typing import Any

from lightning.pytorch import Callback

from callbacks.exemplar_selection import ExemplarSelection
from datamodules.replay.exemplar_memory import ExemplarMemory
from gift_lightning.methods.parts.distillation import DistillationCLIP


class ICaRL(DistillationCLIP):
    """A few images of earlier tasks stay in memory, and the model before the task is distilled on them.

    loss = CE + alpha * (D(M_teacher, M) + D(M_teacher', M'))

    ``M`` are the logits of the memory's images (``data.replay`` is a ``datamodules.ExemplarMemory``) over the class
    prompts of the current task. In the first task the memory is empty. After a task its exemplars are chosen by
    herding: one after the other, such that the mean of their features comes as close as possible to that of their
    class. All tasks have an equal share of the memory. The memory stays from task to task.

    Reference: Rebuffi, Kolesnikov, Sperl, Lampert, "iCaRL: Incremental Classifier and Representation Learning",
    CVPR 2017, arXiv 1611.07725, as the authors of ZSCL (arXiv 2303.06628) put it to CLIP.

    Args:
        official_quirks: choose images as their code does: the first of the first task in their order; then by herding
            over the whole task and not class by class, where each choice shifts the numbers of the later ones, so that
            other images stay than were chosen. It is a slip, and off. (Their driver also has the initial model
            for a teacher in every task, ``teacher: initial``, and their script does not distil at all.)
        kwargs: see ``DistillationCLIP``; the teacher is the model before the task.
    """

    replay_type = ExemplarMemory

    def __init__(self, official_quirks: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.exemplar_selection = ExemplarSelection(official_quirks)

    def configure_callbacks(self) -> list[Callback]:
        return [*super().configure_callbacks(), self.exemplar_selection]
