"""Drawing the images of one task: any number of processes, killed and started again, leave the same files."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from datamodules.replay.folder import ReplayFolder, is_blank
from datamodules.replay.generator import ImageGenerator
from datamodules.stream import Split
from gift_lightning.console import plain_console
from gift_lightning.errors import InputError
from gift_lightning.seeding import stream_seed

ATTEMPTS = 4
"""Seeds tried for one image before its generator is held to be broken."""

LOG_SECONDS = 60.0
"""Time between two lines of progress where there is no progress bar."""


@dataclass(frozen=True)
class Drawing:
    """The images of one task: what they show, what draws them, and where they go.

    A batch holds the same prompts and seeds for any number of processes and after any restart, so that not even
    rounding, which depends on the neighbours in a batch, can tell how a folder was made.

    Attributes:
        folder: where they go.
        generator: what draws them.
        prompts: the prompt of each image.
        key: what identifies this set of images, e.g. ``(seed of the sequence, task)``.
    """

    folder: ReplayFolder
    generator: ImageGenerator
    prompts: list[str]
    key: tuple[int, int]

    @property
    def rows(self) -> list[tuple[Path, str]]:
        """``(image file, prompt)`` of each image, there or not."""
        return [(self.folder.image(index), prompt) for index, prompt in enumerate(self.prompts)]

    def seed(self, index: int, attempt: int) -> int:
        """The seed of image ``index``; further attempts follow one that came out black."""
        return stream_seed(self.key[0], "image", self.key[1], index, attempt)

    def make(self, split: Split) -> Iterator[int]:
        """Make what is missing or broken in this process's share; yields the number of new images after each batch.

        The last process to end completes the folder's manifest.

        Raises:
            InputError: the folder was begun with other settings, or the generator cannot draw a prompt.
        """
        self.folder.open({"seed": self.key[0], "generator": self.generator.identity()}, self.prompts)
        count, size, checked = len(self.prompts), self.generator.batch_size, False
        batches = [range(first, min(first + size, count)) for first in range(0, count, size)]
        try:
            for batch in batches[split.rank :: split.world_size]:
                missing = {index for index in batch if not self._is_there(index)}
                if missing and not checked:
                    self.generator.check(list(dict.fromkeys(self.prompts)))
                    self.folder.reopen()
                    checked = True
                if missing:
                    self._draw(batch, missing)
                yield len(missing)
        finally:
            self.generator.release()
        self.folder.close(self.prompts)

    def _is_there(self, index: int) -> bool:
        seed = self.folder.seed_of(index, self.prompts[index])
        return seed in [self.seed(index, attempt) for attempt in range(ATTEMPTS)]

    def _draw(self, batch: range, missing: set[int]) -> None:
        """Draw a batch and write those of its images that are missing."""
        left = list(batch)
        for attempt in range(ATTEMPTS):
            seeds = [self.seed(index, attempt) for index in left]
            images = self.generator.generate([self.prompts[index] for index in left], seeds)
            blank = [index for index, image in zip(left, images, strict=True) if is_blank(image)]
            for index, seed, image in zip(left, seeds, images, strict=True):
                if index in missing and index not in blank:
                    self.folder.write(index, image, self.prompts[index], seed)
            left = blank
            if not left:
                return
        raise InputError(
            f"The generator returns black images only for '{self.prompts[left[0]]}', with {ATTEMPTS} different seeds:"
            " try another dtype (float16 overflows in some models), or remove the prompt."
        )


@dataclass(frozen=True)
class Progress:
    """How far a drawing is.

    Attributes:
        name: of the task.
        total: images that it will have.
        there: images that are on disk.
        new: those of them that were made since this began, by all processes together.
        seconds: since this began.
    """

    name: str
    total: int
    there: int
    new: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images made per second."""
        return self.new / max(self.seconds, 1e-9)

    def __str__(self) -> str:
        return f"Images for {self.name}: {self.there} of {self.total}, {self.rate:.1f} images/s"


def follow(drawing: Drawing, name: str, work: Iterator[int], show: Callable[[Progress], None]) -> Progress:
    """Go through the ``work`` of ``drawing.make``; returns how far all processes are then.

    Args:
        drawing: what is drawn.
        name: of the task.
        work: ``drawing.make(...)``, or what leads through it.
        show: told how far they are before the first and after each batch.
    """
    began, before, own = time.monotonic(), drawing.folder.count(), 0
    progress = Progress(name, len(drawing.prompts), before, 0, 0.0)
    show(progress)
    for new in work:
        own, there = own + new, drawing.folder.count()
        # what replaces a broken file does not raise the count
        progress = replace(progress, there=there, new=max(own, there - before), seconds=time.monotonic() - began)
        show(progress)
    return progress


def lines() -> Callable[[Progress], None]:
    """A ``show`` for a log file: a line of text once in a while."""
    told = 0.0

    def show(progress: Progress) -> None:
        nonlocal told
        if progress.new and progress.seconds - told > LOG_SECONDS:
            told = progress.seconds
            print_line(progress)

    return show


def print_line(progress: Progress) -> None:
    """Print how far a drawing is."""
    plain_console().print(str(progress), soft_wrap=True)
