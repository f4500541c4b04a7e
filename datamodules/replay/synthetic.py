"""Replay of images that a text-to-image model draws from the names of classes."""

import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from lightning import Trainer

from datamodules.base import Replay
from datamodules.images.sets import ImageFiles
from datamodules.ranks import in_step
from datamodules.replay.drawing import Drawing, Progress, follow, lines, print_line
from datamodules.replay.folder import RESTORE, ReplayFolder
from datamodules.replay.generator import ImageGenerator
from datamodules.stream import Split
from gift_lightning.errors import InputError
from gift_lightning.files import package_file, path_of, read_lines
from gift_lightning.seeding import stream_seed
from gift_lightning.sources import Inspection, Source, Status

LISTING_SECONDS = 60.0
"""Time for which a network file system may show an old list of files."""


class SyntheticReplay(Replay):
    """Images drawn from class names before each task: those of earlier tasks, and others, as in GIFT.

    P = C0 + class prompts (first template) of the tasks before t
    replay set of t = ``images_per_task`` prompts, drawn from P with replacement, and one image for each

    The images of task t are in ``<folder>/<name of t>_Syn``, in the layout of the method's authors. Missing and broken
    ones are drawn, by all ranks together. Image i of task t is a function of the sequence's seed, t, i and the
    generator. A folder made by another program (a CSV and no manifest) is only read: the first ``images_per_task`` rows
    of its CSV, less those with a black image. Its images must lie in it. An image that was changed after it was drawn
    is refused.

    Reference: GIFT, arXiv 2503.04229.

    Args:
        folder: of the images, with a folder for each task.
        generator: draws missing images; ``null`` only reads.
        images_per_task: image-text pairs in the set of each task.
        batch_size: pairs in one optimiser step, over all devices and accumulated batches.
        initial_prompts: C0: a list of prompts, a text file with one a line (``package:datamodules.mini/file.txt`` for
            one in an installed package), or ``imagenet`` for "a photo of a {}." with the 1000 class names of ImageNet.
    """

    name = "replay images"

    def __init__(
        self,
        folder: str,
        generator: ImageGenerator | None = None,
        images_per_task: int = 1000,
        batch_size: int = 64,
        initial_prompts: str | list[str] = "imagenet",
    ) -> None:
        super().__init__(batch_size)
        if images_per_task < 1:
            raise InputError(f"`data.replay.images_per_task` is {images_per_task}: give at least 1.")
        self.root, self.generator = path_of(folder), generator
        self.images_per_task = images_per_task
        self.initial_prompts = _read_prompts(initial_prompts)

    def setup(self, stage: str | None = None) -> None:
        """Raises an ``InputError`` if the images of a task are neither in the folder nor can be drawn."""
        inspection = self.inspect()
        if inspection.status not in ("present", "left to fit"):
            raise InputError(inspection.detail)
        if self.generator is not None and inspection.status == "left to fit":
            self.generator.prepare()

    def inspect(self) -> Inspection:
        """The images of all tasks in the folder, and those to draw; drawn ones are counted, not opened."""
        count, fault, wanted = 0, "", self.images_per_task
        for folder in map(self.folder, range(self.sequence.num_tasks)):
            is_read = self.generator is None or folder.is_foreign
            try:
                count += len(folder.listed(wanted)) if is_read else min(folder.count(), wanted)
            except InputError as error:
                fault = fault or str(error)
        expected = wanted * self.sequence.num_tasks
        lacking: Status = "incomplete" if count else "missing"
        status: Status = "present" if count == expected else lacking if fault else "left to fit"
        left = f"{expected - count} of {expected} images are to be drawn: by fit, or by generate ahead of time."
        one = self.generator.image_bytes() if self.generator is not None and status == "left to fit" else None
        return Inspection(
            self.name,
            status,
            "" if count == expected else fault or left,
            counts=(count, 0),
            expected=(expected, 0),
            where=self.root,
            to_write=None if one is None else one * (expected - count),
        )

    def sources(self) -> list[Source]:
        """The images, and the sources of the generator; those to fetch are left out if all images are drawn."""
        is_drawn = self.inspect().status == "present"
        needed = [] if self.generator is None else self.generator.sources()
        return [*(source for source in needed if not (is_drawn and source.inspect().can_be_fetched)), self]

    def notes(self) -> list[str]:
        """Says which images cannot be checked."""
        folders = map(self.folder, range(self.sequence.num_tasks))
        return [
            f"The images in {folder.path} were drawn by an earlier version, which wrote no hashes: whether one was"
            " changed since is not checked."
            for folder in folders
            if not folder.keeps_hashes
        ]

    def pool(self, task: int) -> list[str]:
        """The distinct prompts that the replay set of ``task`` is drawn from."""
        earlier = [prompt for previous in self.sequence.tasks[:task] for prompt in previous.training_prompts()]
        return list(dict.fromkeys([*self.initial_prompts, *earlier]))

    def folder(self, task: int) -> ReplayFolder:
        """The folder of the images of ``task``."""
        return ReplayFolder(self.root / f"{self.sequence.names[task]}_Syn")

    def drawing(self, task: int) -> Drawing | None:
        """The drawing of the images of ``task``; ``None`` if its folder is only read."""
        folder, seed = self.folder(task), self.sequence.seed
        if self.generator is None or folder.is_foreign:
            return None
        rng = Random(stream_seed(seed, "prompts", task))
        prompts = rng.choices(self.pool(task), k=self.images_per_task)
        return Drawing(folder, self.generator, prompts, (seed, task))

    def prepare_task(self, task: int) -> None:
        drawing, trainer = self.drawing(task), self.sequence.trainer
        if drawing is None:
            rows = self.folder(task).read(self.images_per_task)
        elif trainer is not None and trainer.fast_dev_run:  # type: ignore[attr-defined]
            rows = self._draw_few(drawing)
        else:
            self._draw_together(drawing, self.sequence.names[task], trainer)
            rows = drawing.rows
        self.texts, self.pairs = _pairs(rows)

    def held_out(self, task: int, count: int) -> tuple[list[str], ImageFiles]:
        """``count`` pairs of the kind of the replay set of ``task`` that no step replays, as ``texts`` and ``pairs``.

        Other draws of the same prompts, by the same generator. Their images are beside those of the replay set, in
        ``<name>_HeldOut<count>``, and missing ones are drawn by all ranks together. A function of the same things.

        Raises:
            InputError: the images of the task are only read, so that no generator is known to have drawn them.
        """
        drawing, name = self.drawing(task), self.sequence.names[task]
        if drawing is None:
            raise InputError(
                f"The replay images of task '{name}' are only read, and pairs that are held out are drawn by the same"
                " generator: set `data.replay.generator` and another `data.replay.folder`, or hold none out."
            )
        folder = ReplayFolder(self.root / f"{name}_HeldOut{count}")
        rng = Random(stream_seed(self.sequence.seed, "held-out prompts", task))
        prompts = rng.choices(self.pool(task), k=count)
        held_out = replace(drawing, folder=folder, prompts=prompts, stream="held-out image")
        self._draw_together(held_out, f"{name}, held out", self.sequence.trainer)
        return _pairs(held_out.rows)

    def _draw_together(self, drawing: Drawing, name: str, trainer: Trainer | None) -> None:
        """Draw with all ranks of the run; returns when every image is drawn."""
        split = Split.of_ranks(trainer)
        with closing(drawing.make(split)) as work:  # a run that leaves waits for the images which are being written
            progress = follow(drawing, name, work if trainer is None else in_step(trainer, work), self._show(split))
        if split.rank == 0 and progress.new:
            print_line(progress)
        patience = time.monotonic() + LISTING_SECONDS
        while drawing.folder.count() < len(drawing.prompts) and time.monotonic() < patience:
            time.sleep(0.5)
        if drawing.folder.count() < len(drawing.prompts):
            raise InputError(f"{self.root} is not the same folder on all machines of this run: choose a shared one.")

    def _show(self, split: Split) -> Callable[[Progress], None]:
        """The display of the progress of a drawing: by the first rank, with ``report`` or in lines."""
        report = self.report
        if split.rank > 0:
            return lambda progress: None
        return lines() if report is None else lambda progress: report(str(progress))

    def _draw_few(self, drawing: Drawing) -> list[tuple[Path, str]]:
        """One batch in a temporary folder, each rank by itself: for a run that leaves nothing."""
        self._temporary = TemporaryDirectory()  # exists as long as the images are read
        folder = ReplayFolder(Path(self._temporary.name))
        few = Drawing(folder, drawing.generator, drawing.prompts[: drawing.generator.batch_size], drawing.key)
        for _ in few.make(Split()):
            pass
        return few.rows


def _pairs(rows: list[tuple[Path, str]]) -> tuple[list[str], ImageFiles]:
    """The distinct texts of ``(image file, text)`` rows, and the images with the index of their text."""
    texts = list(dict.fromkeys(text for _, text in rows))
    numbers = {text: number for number, text in enumerate(texts)}
    samples = [(os.fspath(file), numbers[text]) for file, text in rows]
    return texts, ImageFiles(Path(), samples, remedy=RESTORE)


def _read_prompts(setting: str | list[str]) -> list[str]:
    """The prompts of C0."""
    if setting == "imagenet":
        from open_clip import IMAGENET_CLASSNAMES

        return [f"a photo of a {name}." for name in IMAGENET_CLASSNAMES]
    if isinstance(setting, list):
        prompts = setting
    else:
        file = package_file(setting, "`data.replay.initial_prompts`")
        if not file.exists():
            raise InputError(f"`data.replay.initial_prompts`: {file} does not exist; give a text file or 'imagenet'.")
        stripped = (line.strip() for line in read_lines(file, "`data.replay.initial_prompts`"))
        prompts = [line for line in stripped if line]
    if not prompts:
        raise InputError("`data.replay.initial_prompts` is empty: give prompts, a text file of prompts, or 'imagenet'.")
    return prompts
