"""What the images of a task are told apart from: the classes of the task, or also those of others."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from datamodules.base import Task

LabelSpace = Literal["task", "seen", "all"]
"""The classes of the task alone (as the papers test on MTIL), of all tasks learned so far, or of the whole sequence."""


class AmongTasks(Task):
    """A task whose images may be of the classes of several tasks.

    Args:
        tasks: those whose classes count.
        place: of the task among them.

    Attributes:
        class_names: of all these tasks, one after the other, each with the prompts of its own task.
    """

    def __init__(self, tasks: Sequence[Task], place: int) -> None:
        super().__init__()
        self.name, self._tasks = tasks[place].name, tasks
        self.class_names = [name for each in tasks for name in each.class_names]
        self._first = sum(len(each.class_names) for each in tasks[:place])

    def prompts(self) -> list[list[str]]:
        return [own for each in self._tasks for own in each.prompts()]

    def right(self, predicted: Tensor, labels: Tensor) -> Tensor:
        """Whether each predicted class ``[n]`` is called what the label ``[n]`` of the task is: boolean ``[n]``.

        By name, because two tasks may know the same class.
        """
        numbers = {name: number for number, name in enumerate(self.class_names)}
        same = torch.tensor([numbers[name] for name in self.class_names])
        return same[predicted] == same[self._first + labels]
