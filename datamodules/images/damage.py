"""Images that decode although their decoder reports damage."""

from typing import Any

from torch import Tensor

from datamodules.base import ImageSet
from datamodules.images.sets import DAMAGED
from datamodules.ranks import on_all_ranks
from datamodules.selection import Selection

REPLAY = "data.replay"
"""Names the images of replay among those of tasks."""


class DamagedImages:
    """The damaged images of a sequence that were read so far, by any rank and any process that loads images.

    Args:
        sequence: the ``TaskSequence``.

    Attributes:
        found: their paths, by the name of their task, or ``REPLAY``.
    """

    def __init__(self, sequence: Any) -> None:
        self._sequence = sequence
        self.found: dict[str, list[str]] = {}

    def add(self, name: str, paths: list[str]) -> None:
        """Take in damaged images of the task of this name."""
        if paths:
            self.found[name] = sorted({*self.found.get(name, []), *paths})

    def collect(self) -> dict[str, list[str]]:
        """Take in what any rank has found, and return all; all ranks have to call this."""
        # all steps of a data set share its images: they are looked at once
        wholes = {id(whole): whole for _, samples in self._sets() if hasattr(whole := _whole(samples), "damage")}
        damaged = {number for number, whole in wholes.items() if (whole.damage == DAMAGED).any()}
        sets = [(name, samples) for name, samples in self._sets() if id(_whole(samples)) in damaged]
        own = [(name, paths) for name, samples in sets if (paths := damaged_paths(samples))]
        trainer = self._sequence.trainer
        for rank in [own] if trainer is None else on_all_ranks(trainer, own):
            for name, paths in rank:
                self.add(name, paths)
        return self.found

    def _sets(self) -> list[tuple[str, ImageSet]]:
        tasks = [task for task in self._sequence.tasks if hasattr(task, "train_set")]
        sets = [(task.name, samples) for task in tasks for samples in (task.train_set, task.test_set)]
        pairs = getattr(self._sequence.replay, "pairs", None)
        is_a_tasks = any(pairs is samples for _, samples in sets)
        return sets if pairs is None or is_a_tasks else [*sets, (REPLAY, pairs)]


def damaged_paths(samples: ImageSet, damage: Tensor | None = None) -> list[str]:
    """The paths of the damaged images of a set, as far as it knows them.

    Args:
        samples: any set.
        damage: what is known of each image, if not by the set itself (see ``ImageFiles.damage``).
    """
    damage = getattr(samples, "damage", None) if damage is None else damage
    indices = [] if damage is None else (damage == DAMAGED).nonzero().flatten().tolist()
    if not indices:
        return []
    while isinstance(samples, Selection):  # whose own list of paths is made anew each time
        indices = [samples.indices[index] for index in indices]
        samples = samples.whole
    listed: Any = samples
    return [str(listed.samples[index][0]) for index in indices]


def _whole(samples: ImageSet) -> Any:
    """The set of which some samples were selected."""
    while isinstance(samples, Selection):
        samples = samples.whole
    return samples
