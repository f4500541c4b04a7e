"""Tasks of which some images are black: those held out for validation, or the test images."""

from typing import Literal

from datamodules.images.selection import hold_out
from datamodules.mini import Flags, Shapes
from datamodules.mini.tasks import MiniTask

SEED, SHARE = 3, 0.3
"""Of the runs, and of the images held out."""


def _blacken(task: MiniTask, black: str | None) -> None:
    if black == "held out":
        task.train_set.images[hold_out(task.train_set, SHARE, (SEED, task.name))[1].indices] = 0
    elif black == "test":
        task.test_set.images[:] = 0


class SomeFlags(Flags):
    """Flags, some of them black."""

    def __init__(self, black: Literal["held out", "test"] | None = None) -> None:
        super().__init__(90, 40)
        self.black = black

    def setup(self, stage: str | None = None) -> None:
        """Make the images, once."""
        is_new = not hasattr(self, "train_set")
        super().setup(stage)
        if is_new:
            _blacken(self, self.black)


class SomeShapes(Shapes):
    """Shapes, some of them black."""

    def __init__(self, black: Literal["held out", "test"] | None = None) -> None:
        super().__init__(80, 30)
        self.black = black

    def setup(self, stage: str | None = None) -> None:
        """Make the images, once."""
        is_new = not hasattr(self, "train_set")
        super().setup(stage)
        if is_new:
            _blacken(self, self.black)
