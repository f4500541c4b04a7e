"""A dress rehearsal of MTIL, Order I: all 11 tasks by GIFT at a hundredth of the steps and images, and what that means.

::

    python -m benchmarks.rehearsal --device cuda

Random weights, random JPEGs of the sizes of the real ones, the classes and counts of the real data sets. The whole run
is then computed from the parts: the seconds of a step, of decoding and of evaluating an image, and of the work at
each task's boundary as it was. Left out are the drawing of replay images, which ``benchmarks.generation`` measures, and
the teacher's features of 1000 of them a task.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import open_clip
import torch
from lightning.pytorch import Callback
from PIL import Image
from rich.console import Console
from rich.table import Table
from torchvision.transforms.functional import to_pil_image

from benchmarks.workload import RandomReplay
from datamodules import TaskSequence
from datamodules.base import Task
from datamodules.images.sets import ImageFiles
from datamodules.mtil.facts import FACTS
from gift_lightning import fit
from gift_lightning.clip.source import CLIPSource
from gift_lightning.methods import GIFT
from gift_lightning.tensors import save_tensors

SHARE = {"cuda": 100, "cpu": 2000}
"""The part that is rehearsed, as 100 for a hundredth; on a CPU, with a small model, it is a trial of this script."""
STEPS = 1000
ORDER_1 = sorted((name for name in FACTS if name != "TinyImageNet"), key=str.lower)
SIZES = {"CIFAR100": (32, 32), "MNIST": (28, 28), "EuroSAT": (64, 64)}
"""Width and height of images; those of the others are about 500 x 375."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsal", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--share", type=int, help="the part that is rehearsed, as 100 for a hundredth")
    options = parser.parse_args(argv)
    for table in tables(options.device, options.share):
        Console().print(table)
    return 0


def tables(device: str = "cpu", share: int | None = None) -> list[Table]:
    """What was measured, and the whole run."""
    is_small, share = device == "cpu", share or SHARE[device]
    workers = 0 if is_small else max(1, (os.cpu_count() or 2) - 2)
    model = "ViT-S-32-alt" if is_small else "ViT-B-16-quickgelu"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        tasks = [RehearsalTask(str(folder / "images"), name, share) for name in ORDER_1]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(RehearsalTask.write, tasks))
        torch.manual_seed(0)
        save_tensors(open_clip.create_model(model).state_dict(), folder / "start.safetensors")
        batch = 4 if is_small else 64
        sequence = TaskSequence(
            tasks,  # type: ignore[arg-type]
            batch_size=batch,
            steps=max(6, STEPS // share),
            num_workers=workers,
            replay=ReplayPictures(max(batch, 1000 // share), batch),
        )
        method = GIFT(clip=CLIPSource(model, str(folder / "start.safetensors")), warmup_steps=2)
        clock, began = StepClock(), time.perf_counter()
        precision = "32-true" if is_small else "bf16-mixed"
        results = fit(
            method, sequence, folder / "run", accelerator=device, devices=1, precision=precision, callbacks=[clock]
        )
        return [table_of(clock, results.record["cost"], tasks, time.perf_counter() - began)]


def table_of(clock: "StepClock", cost: dict[str, Any], tasks: list["RehearsalTask"], seconds: float) -> Table:
    """The rehearsal, and the whole."""
    images = sum(len(task.test_set) for task in tasks)
    full = sum(FACTS[task.name].test for task in tasks)
    # the first row also decodes the test images, which later rows keep
    later = median(cost["evaluate_seconds"])
    first = max(0.0, cost["zero_shot_seconds"][0] - later)
    steps, evaluation = STEPS * len(tasks) * clock.mean, later * full / images * (len(tasks) + 1)
    decoding, others = first * full / images, sum(cost["other_seconds"]) + sum(cost["replay_seconds"])
    table = Table("MTIL Order I, GIFT", "rehearsed", "the whole, minutes")
    table.add_row("seconds of the rehearsal", f"{seconds:.0f}", "")
    table.add_row("milliseconds of a step", f"{1e3 * clock.mean:.0f}", f"{steps / 60:.1f}")
    table.add_row("of it waiting for images", f"{clock.waiting:.0%}", f"{steps * clock.waiting / 60:.1f}")
    table.add_row("decoding of the test images, s", f"{first:.1f}", f"{decoding / 60:.1f}")
    table.add_row(f"evaluation of {images} images, s", f"{later:.1f}", f"{evaluation / 60:.1f}")
    table.add_row("checkpoints, reports, replay sets, s", f"{others:.1f}", f"{others / 60:.1f}")
    table.add_row("all but the drawing of images", "", f"{(steps + evaluation + decoding + others) / 60:.1f}")
    return table


class StepClock(Callback):
    """The mean seconds of a step, the first three of each task left out, and of waiting for its images."""

    def __init__(self) -> None:
        self.steps, self.seconds, self.waits = 0, 0.0, 0.0
        self._began = self._ended = 0.0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 3:
            _synchronise(module)
            self._began = time.perf_counter()
        elif batch_idx > 3:
            self.waits += time.perf_counter() - self._ended

    def on_train_batch_end(self, *_: Any) -> None:
        self._ended = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        _synchronise(module)
        self.seconds += time.perf_counter() - self._began
        self.steps += trainer.datamodule.steps(module.task) - 3

    @property
    def mean(self) -> float:
        """Seconds of a step."""
        return self.seconds / self.steps

    @property
    def waiting(self) -> float:
        """The share of the steps in which the loop waits for images; a GPU may work meanwhile."""
        return self.waits / self.seconds


def _synchronise(module: Any) -> None:
    if module.device.type == "cuda":
        torch.cuda.synchronize()


class ReplayPictures(RandomReplay):
    """Random pictures in the place of drawn ones, with 100 texts.

    Args:
        images: how many.
        batch_size: in a step.
    """

    def __init__(self, images: int, batch_size: int) -> None:
        super().__init__(images, 100, 224, batch_size, paired=True)
        self.pairs = [(to_pil_image(image), text) for image, text in self.pairs]  # type: ignore[assignment, attr-defined]


class RehearsalTask(Task):
    """A data set of MTIL with so many classes, of which a part of the images is there, as random JPEGs.

    Args:
        root: folder for the images.
        data_set: its name.
        share: 100 for a hundredth of the images.
    """

    def __init__(self, root: str, data_set: str, share: int) -> None:
        super().__init__()
        facts = FACTS[data_set]
        self.name, self.templates = data_set, ["a photo of a {}."]
        self.class_names = [f"{data_set} {index}" for index in range(facts.classes)]
        self._folder, self._counts = Path(root) / data_set, (-(-facts.train // share), -(-facts.test // share))

    def setup(self, stage: str | None = None) -> None:
        """List the images."""
        self.train_set, self.test_set = (
            ImageFiles(self._folder, [(f"{split}{i}.jpg", i % len(self.class_names)) for i in range(count)])
            for split, count in zip(("train", "test"), self._counts, strict=True)
        )

    def write(self) -> None:
        """Write the images: smooth pictures with noise, as large when compressed as photographs are."""
        self._folder.mkdir(parents=True)
        self.setup()
        random, (width, height) = np.random.default_rng(0), SIZES.get(self.name, (500, 375))
        for path, _ in [*self.train_set.samples, *self.test_set.samples]:  # type: ignore[attr-defined]
            coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
            noisy = smooth + random.normal(0, 6, (height, width, 1))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(self._folder / path, quality=90)

    @property
    def fingerprint(self) -> str:
        return f"{self.name} {self._counts}"


if __name__ == "__main__":
    raise SystemExit(main())
