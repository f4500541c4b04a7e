"""Images that decode although their decoder reports damage."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from datamodules.images.selection import Selection
from datamodules.images.sets import DAMAGED, ImageSet


def damaged_among(sets: Sequence[tuple[str, ImageSet]]) -> list[tuple[str, list[str]]]:
    """The sets with damaged images among those read so far: ``(name, paths of these images)`` of each.

    Args:
        sets: ``(name, set)`` of each.
    """
    # all sub-tasks of a data set share its images: their record is read once
    wholes = {id(whole): whole for _, samples in sets if hasattr(whole := _whole(samples), "damage")}
    damaged = {number for number, whole in wholes.items() if (whole.damage == DAMAGED).any()}
    touched = [(name, samples) for name, samples in sets if id(_whole(samples)) in damaged]
    return [(name, paths) for name, samples in touched if (paths := damaged_paths(samples))]


def damaged_paths(samples: ImageSet, damage: Tensor | None = None) -> list[str]:
    """The paths of the damaged images of a set; empty for a set without a record of damage.

    Args:
        samples: any set.
        damage: uint8 ``[n]``, the record in the place of the set's (see ``ImageFiles.damage``).
    """
    damage = getattr(samples, "damage", None) if damage is None else damage
    indices = [] if damage is None else (damage == DAMAGED).nonzero().flatten().tolist()
    if not indices:
        return []
    while isinstance(samples, Selection):  # its property ``samples`` makes the whole list at each access
        indices = [samples.indices[index] for index in indices]
        samples = samples.whole
    listed: Any = samples
    return [str(listed.samples[index][0]) for index in indices]


def _whole(samples: ImageSet) -> Any:
    """The set below all selections."""
    while isinstance(samples, Selection):
        samples = samples.whole
    return samples
