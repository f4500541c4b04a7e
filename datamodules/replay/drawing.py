"""Drawing the images of one task: any number of processes, killed and started again, leave the same files."""

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from datamodules.replay.folder import ReplayFolder, is_blank
from datamodules.replay.generator import ImageGenerator
from datamodules.stream import Split
from gift_lightning.console import plain_console
from gift_lightning.errors import InputError
from gift_lightning.files import writing_in
from gift_lightning.seeding import stream_seed

ATTEMPTS = 4
"""Seeds tried for one image before its generator counts as broken."""

LOG_SECONDS = 60.0
"""Time between two lines of progress where there is no progress bar."""


@dataclass(frozen=True)
class Drawing:
    """The images of one task: their prompts, their generator, and their folder.

    A batch holds the same prompts and seeds for any number of processes and after any restart, so that not even
    rounding, which depends on the neighbours in a batch, depends on how a folder was made.

    Attributes:
        folder: of the images.
        generator: draws them.
        prompts: the prompt of each image.
        key: identifies this set of images, e.g. ``(seed of the sequence, task)``.
        stream: tells sets of one key apart.
    """

    folder: ReplayFolder
    generator: ImageGenerator
    prompts: list[str]
    key: tuple[int, int]
    stream: str = "image"

    @property
    def rows(self) -> list[tuple[Path, str]]:
        """``(image file, prompt)`` of each image, drawn or not yet."""
        return [(self.folder.image(index), prompt) for index, prompt in enumerate(self.prompts)]

    def seed(self, index: int, attempt: int) -> int:
        """The seed of image ``index``; further attempts follow one that came out black."""
        return stream_seed(self.key[0], self.stream, self.key[1], index, attempt)

    def make(self, split: Split) -> Generator[int, None, None]:
        """Make the missing and broken images of this process's share; yields the number of new images after each batch.

        A thread writes the images of a batch while the device draws the next one. A batch is yielded when its images
        are on disk, so that at most two batches are in memory. The last process to end completes the folder's manifest,
        and removes what killed ones left.

        Raises:
            InputError: the folder was begun with other settings, the generator cannot draw a prompt, or an image cannot
                be written.
        """
        with writing_in(self.folder.path):
            self.folder.open({"seed": self.key[0], "generator": self.generator.identity()}, self.prompts)
            yield from self._make_missing(split)
            self.folder.close(self.prompts)

    def _make_missing(self, split: Split) -> Iterator[int]:
        count, size, checked = len(self.prompts), self.generator.batch_size, False
        batches = [range(first, min(first + size, count)) for first in range(0, count, size)]
        written: list[Future[None]] | None = None  # of the batch before
        try:
            with ThreadPoolExecutor(1) as writer:  # one thread: files appear in their order
                for batch in batches[split.rank :: split.world_size]:
                    missing = {index for index in batch if not self._is_there(index)}
                    if missing and not checked:
                        self.generator.check(list(dict.fromkeys(self.prompts)))
                        self.folder.reopen()
                        checked = True
                    drawn = self._draw(batch, missing) if missing else iter(())
                    writing = [writer.submit(self._write, *each) for each in drawn]
                    if written is not None:
                        yield _finish(written)
                    written = writing
                if written is not None:
                    yield _finish(written)
        finally:
            self.generator.release()

    def _is_there(self, index: int) -> bool:
        seed = self.folder.seed_of(index, self.prompts[index])
        return seed in [self.seed(index, attempt) for attempt in range(ATTEMPTS)]

    def _draw(self, batch: range, missing: set[int]) -> Iterator[tuple[int, Image.Image, int]]:
        """Draw a batch; yields number, image and seed of those that are missing."""
        left = list(batch)
        for attempt in range(ATTEMPTS):
            seeds = [self.seed(index, attempt) for index in left]
            images = self.generator.generate([self.prompts[index] for index in left], seeds)
            blank = [index for index, image in zip(left, images, strict=True) if is_blank(image)]
            for index, seed, image in zip(left, seeds, images, strict=True):
                if index in missing and index not in blank:
                    yield index, image, seed
            left = blank
            if not left:
                return
        raise InputError(
            f"The generator returns black images only for '{self.prompts[left[0]]}', with {ATTEMPTS} different seeds:"
            " try another dtype (float16 overflows in some models), or remove the prompt."
        )

    def _write(self, index: int, image: Image.Image, seed: int) -> None:
        self.folder.write(index, image, self.prompts[index], seed)


def _finish(writing: list[Future[None]]) -> int:
    """Wait for files, and raise what went wrong with one of them; returns their number."""
    for each in writing:
        each.result()
    return len(writing)


@dataclass(frozen=True)
class Progress:
    """Progress of a drawing.

    Attributes:
        name: of the task.
        total: images that it will have.
        on_disk: images that are drawn.
        new: those of them that were made since this began, by all processes together.
        seconds: since this began.
    """

    name: str
    total: int
    on_disk: int
    new: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images made per second."""
        return self.new / max(self.seconds, 1e-9)

    def __str__(self) -> str:
        return f"Images for {self.name}: {self.on_disk} of {self.total}, {self.rate:.1f} images/s"


def follow(drawing: Drawing, name: str, work: Iterator[int], show: Callable[[Progress], None]) -> Progress:
    """Go through the ``work`` of ``drawing.make``; returns the progress of all processes at the end.

    Args:
        drawing: the images.
        name: of the task.
        work: ``drawing.make(...)``, or an iterator around it.
        show: called with the progress before the first and after each batch.
    """
    began, before, made = time.monotonic(), drawing.folder.count(), 0
    progress = Progress(name, len(drawing.prompts), before, 0, 0.0)
    show(progress)
    for new in work:
        made, on_disk = made + new, drawing.folder.count()
        # an image that replaces a broken file does not raise the count
        progress = replace(progress, on_disk=on_disk, new=max(made, on_disk - before), seconds=time.monotonic() - began)
        show(progress)
    return progress


def lines() -> Callable[[Progress], None]:
    """A ``show`` for a log file: a line of text once in a while."""
    last = 0.0

    def show(progress: Progress) -> None:
        nonlocal last
        if progress.new and progress.seconds - last > LOG_SECONDS:
            last = progress.seconds
            print_line(progress)

    return show


def print_line(progress: Progress) -> None:
    """Print the progress of a drawing."""
    plain_console().print(str(progress), soft_wrap=True)
