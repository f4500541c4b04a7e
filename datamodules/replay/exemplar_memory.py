"""A memory of images of earlier tasks."""

from typing import Any

from datamodules.base import Replay
from datamodules.images.sets import ImageSet
from gift_lightning.errors import InputError


class ExemplarMemory(Replay):
    """Some training images of the earlier tasks, with the test transform, and the class prompts of the current task.

    The method chooses the images at a task's end. They are read from the data of their tasks, so that the checkpoint
    has their indices alone. The first task has no memory.

    Args:
        size: images in the whole memory.
        batch_size: images in one optimiser step, over all devices and accumulated batches.

    Attributes:
        exemplars: for each earlier task the indices of its images, the best first.
    """

    first_task = 1
    paired = False

    def __init__(self, size: int = 2000, batch_size: int = 64) -> None:
        super().__init__(batch_size)
        self.size = size
        self.exemplars: list[list[int]] = []

    def setup(self, stage: str | None = None) -> None:
        """Raises an ``InputError`` if the memory has no room for an image of each earlier task."""
        earlier = self.sequence.num_tasks - 1
        if self.size < max(1, earlier):
            raise InputError(f"`data.replay.size` is {self.size}: give at least one image for each of {earlier} tasks.")

    def add(self, task: int, chosen: list[int]) -> None:
        """Take in the images of ``task``, the best first, and shrink all to an equal share of the memory."""
        share = self.share(task + 1)
        self.exemplars = [indices[:share] for indices in [*self.exemplars[:task], chosen]]

    def share(self, tasks: int) -> int:
        """Images of each of so many tasks."""
        return self.size // tasks

    def prepare_task(self, task: int) -> None:
        self.texts = self.sequence.tasks[task].training_prompts()
        sets = [self.sequence.train_set(earlier) for earlier in range(len(self.exemplars))]
        self.pairs = _Images([(sets[t], index) for t, indices in enumerate(self.exemplars) for index in indices])

    def state_dict(self) -> dict[str, Any]:
        return {"exemplars": self.exemplars}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.exemplars = state_dict["exemplars"]


class _Images:
    """Images of several sets, without texts."""

    def __init__(self, chosen: list[tuple[ImageSet, int]]) -> None:
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        samples, position = self._chosen[index]
        return samples[position][0], -1
