"""Tasks of which some images are black: those held out for validation, or the test images."""

from typing import Literal

from datamodules.images.selection import hold_out
from datamodules.mini import Flags, Shapes
from datamodules.mini.tasks import MiniTask

SEED, SHARE = 3, 0.3
"""Of the runs, and of the images held out."""


class SomeBlack(MiniTask):
    """A task of ``sizes`` training and test images, some of them black."""

    sizes: tuple[int, int]

    def __init__(self, black: Literal["held out", "test"] | None = None) -> None:
        super().__init__(*self.sizes)
        self.black = black

    def setup(self, stage: str | None = None) -> None:
        """Make the images, once."""
        if hasattr(self, "train_set"):
            return
        super().setup(stage)
        if self.black == "held out":
            self.train_set.images[hold_out(self.train_set, SHARE, (SEED, self.name))[1].indices] = 0
        elif self.black == "test":
            self.test_set.images[:] = 0


class SomeFlags(SomeBlack, Flags):
    """Flags, some of them black."""

    sizes = (90, 40)


class SomeShapes(SomeBlack, Shapes):
    """Shapes, some of them black."""

    sizes = (80, 30)
