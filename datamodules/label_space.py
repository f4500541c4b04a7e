"""The candidate classes for the images of a task: those of the task, or also those of others."""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from datamodules.base import Candidates, Task
from gift_lightning.names import alike

LabelSpace = Literal["task", "seen", "all"]
"""The classes of the task alone (as the papers test on MTIL), of all tasks learned so far, or of the whole sequence."""


class AmongTasks(Candidates):
    """The classes of several tasks, as candidates for the images of one of them.

    Args:
        tasks: those whose classes count.
        place: of the task with the images among them.

    Attributes:
        class_names: of all these tasks, one after the other, each with the prompts of its task.
    """

    def __init__(self, tasks: Sequence[Task], place: int) -> None:
        self.name, self._tasks = tasks[place].name, tasks
        self.class_names = [name for each in tasks for name in each.class_names]
        self.first_class = sum(len(each.class_names) for each in tasks[:place])

    def class_prompts(self) -> list[list[str]]:
        return [prompts for task in self._tasks for prompts in task.class_prompts()]

    def merged(self, classes: Tensor) -> Tensor:
        """The first class of the same name as each class, by their numbers ``[n]``: two tasks may have one class."""
        first: dict[str, int] = {}
        numbers = [first.setdefault(name, number) for number, name in enumerate(self.class_names)]
        return torch.tensor(numbers)[classes]


def notes_on_names(tasks: Sequence[Task], label_space: LabelSpace) -> list[str]:
    """Sentences on classes with the same prompts, because their names differ at most in case.

    Args:
        tasks: set up.
        label_space: the candidates for test images.
    """
    notes = []
    for task in tasks:
        if twice := [spellings for spellings in _alike(task.class_names) if len(spellings) > 1]:
            right = "the label of the image alone counts" if label_space == "task" else "each class of that name counts"
            notes.append(
                f"Task '{task.name}' has several classes of the name {_list(twice)}, which their prompts do not tell"
                f" apart: {right} as right."
            )
    if label_space == "task":
        return notes
    # of each task a name once
    groups = _alike(name for task in tasks for name in dict.fromkeys(task.class_names))
    shared = [spellings for spellings in groups if len(spellings) > len(set(spellings))]
    if shared:
        notes.append(f"{_list(shared)}: a class of several tasks, an image of which counts as right for each of them.")
    cased = [spellings for spellings in groups if len(set(spellings)) > 1]
    if cased:
        notes.append(
            f"{_list(cased)}: classes whose names differ only in case, which a CLIP reads alike; for an image its own"
            " alone counts as right."
        )
    return notes


def _alike(names: Iterable[str]) -> list[list[str]]:
    """The names in groups of those that are alike."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(alike(name), []).append(name)
    return list(groups.values())


def _list(groups: Sequence[Sequence[str]]) -> str:
    """The first names of several groups, as ``'Cat' (or 'cat'), 'dog' and 3 more``."""
    shown = [" or ".join(f"'{name}'" for name in dict.fromkeys(spellings)) for spellings in groups[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else "")


_SHOWN = 5  # names in a sentence
