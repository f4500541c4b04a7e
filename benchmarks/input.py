"""The way of images from disk and from memory to a normalised batch: milliseconds and images per second of a core.

::

    python -m benchmarks.input --device cpu

JPEGs of 500 x 375 pixels, 64 in a batch of 224 x 224. "Textbook" is a plain ``DataLoader``: the whole transform of
open_clip on each image, ``ToTensor`` and ``Normalize`` included, batches collated in float32, every image through the
loader. Ours carries uint8 and normalises on the device, and sends the indices alone of replay images in memory. Both
give the same values. The two ways alternate, the fastest round of each counts.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from open_clip import image_transform
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Normalize

from benchmarks.decoding import write_images
from datamodules import ImageFolderTask
from datamodules.images.sets import ImageSet
from datamodules.preprocessing import CLIP_TRANSFORMS
from datamodules.shard import replay_images
from datamodules.stream import ReplayDraws, SeededSamples, Split, StepBatches, StepLoader

BATCH = 64
IMAGES = 192


@dataclass
class Row:
    """Milliseconds per image of one way, ours and the textbook's.

    Attributes:
        workers: processes that load; 0 for the main one.
    """

    name: str
    workers: int
    ours: float
    textbook: float

    def cells(self) -> list[str]:
        """Of a table; the last ones are how many times faster ours is, and our images per second of one core."""
        # indices of images in memory come from the main process, whatever the number of workers
        per_core = 1000 / self.ours / (1 if "replay" in self.name else max(1, self.workers))
        times = [f"{self.ours:.3f}", f"{self.textbook:.3f}", f"{self.textbook / self.ours:.2f}"]
        return [self.name, str(self.workers), *times, f"{per_core:.0f}"]


class Whole(Dataset[tuple[Tensor, int]]):
    """Images with the whole transform, one by one."""

    def __init__(self, images: Sequence[Any] | ImageSet, transform: Callable[[Any], Tensor]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        return self.transform(image), label


def normalized(image: Tensor) -> Tensor:
    """The end of open_clip's transform on a stored image ``[3, H, W]``."""
    end = image_transform(224, is_train=False).transforms[-1]
    assert isinstance(end, Normalize)
    result: Tensor = end(image.float() / 255)
    return result


def textbook(samples: Whole, workers: int, device: str, batches: int) -> Iterator[Tensor]:
    """Batches of a plain loader, on the device."""
    draws = torch.randint(len(samples), (batches * BATCH,), generator=torch.Generator().manual_seed(0)).tolist()
    loader = DataLoader(samples, BATCH, sampler=draws, num_workers=workers, pin_memory=device == "cuda")
    return (move_data_to_device(images, device) for images, _ in loader)


def ours(samples: SeededSamples | ReplayDraws, workers: int, device: str, batches: int) -> Iterator[Tensor]:
    """Batches as ``TaskSequence`` makes them."""
    stream = StepBatches(samples, BATCH, batches, (0, "input"), True, Split())
    for batch in StepLoader(0, samples, stream, workers, pin_memory=device == "cuda"):
        moved = move_data_to_device(batch, device)
        if isinstance(samples, ReplayDraws):
            yield moved.received(samples.images).images
        else:
            yield CLIP_TRANSFORMS.normalize(moved[0])


def milliseconds(batches: Iterable[Tensor], warm: int, device: str) -> float:
    """Of one image, after some batches in which workers start."""
    stream = iter(batches)
    _ = [batch.shape for batch in islice(stream, warm)]
    began, images = time.perf_counter(), 0
    for batch in stream:
        images += len(batch)
    if device == "cuda":
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - began) / images


def compare(
    name: str, draws: SeededSamples | ReplayDraws, samples: Whole, workers: int, device: str, batches: int, rounds: int
) -> Row:
    """Both ways in turn; the fastest of some rounds counts."""
    warm, row = 1 + 2 * workers, Row(name, workers, float("inf"), float("inf"))
    for _ in range(rounds):
        row.ours = min(row.ours, milliseconds(ours(draws, workers, device, warm + batches), warm, device))
        row.textbook = min(row.textbook, milliseconds(textbook(samples, workers, device, warm + batches), warm, device))
    return row


def check(images: ImageSet) -> None:
    """Raise a ``RuntimeError`` if the values of the two ways differ."""
    for is_train, geometry in ((True, CLIP_TRANSFORMS.train_geometry), (False, CLIP_TRANSFORMS.test_geometry)):
        both = []
        for transform in (geometry, image_transform(224, is_train)):
            torch.manual_seed(0)
            both.append(transform(images[0][0]))
        if not torch.equal(CLIP_TRANSFORMS.normalize(both[0][None])[0], both[1]):
            raise RuntimeError("The values differ.")


def parts(images: ImageSet, rounds: int) -> dict[str, float]:
    """Milliseconds of the parts of one draw, on one core; the fastest round counts."""
    decoded = [images[index][0] for index in range(32)]
    steps: dict[str, Callable[[int], object]] = {
        "read and decode": lambda index: images[index],
        "augment, to uint8": lambda index: CLIP_TRANSFORMS.train_geometry(decoded[index]),
        "whole transform": lambda index: image_transform(224, is_train=True)(decoded[index]),
    }
    fastest = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            for index in range(len(decoded)):
                step(index)
            fastest[name] = min(fastest[name], 1000 * (time.perf_counter() - began) / len(decoded))
    return fastest


def measure(device: str, rounds: int) -> tuple[dict[str, float], list[Row]]:
    """The parts of a draw, and both ways of training and of replay images, without workers and with all cores."""
    rows, cores = [], os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), IMAGES)
        task = ImageFolderTask(folder)
        task.setup()
        check(images := task.test_set)
        of_draw = parts(images, rounds)
        replayed = ReplayDraws()
        replayed.images = replay_images(images, CLIP_TRANSFORMS.test_geometry, CLIP_TRANSFORMS.normalize, 0, device)
        stored = [(CLIP_TRANSFORMS.test_geometry(image), label) for image, label in map(images.__getitem__, range(64))]
        ways: dict[str, tuple[SeededSamples | ReplayDraws, Whole, int]] = {
            "training JPEGs": (
                SeededSamples(images, CLIP_TRANSFORMS.train_geometry, (0, "input")),
                Whole(images, image_transform(224, is_train=True)),
                6,
            ),
            "replay images in memory": (replayed, Whole(stored, normalized), 20),
        }
        for workers in (0, cores):
            for name, (draws, samples, batches) in ways.items():
                rows.append(compare(name, draws, samples, workers, device, batches * max(1, workers), rounds))
    return of_draw, rows


def tables(device: str = "cpu", rounds: int = 3) -> list[Table]:
    """Both tables, measured anew; torch has one thread meanwhile, as in a worker."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        of_draw, rows = measure(device, rounds)
    finally:
        torch.set_num_threads(threads)
    one = Table("one draw of a training JPEG", "ms", "images/s per core")
    for name, time_of in of_draw.items():
        one.add_row(name, f"{time_of:.2f}", f"{1000 / time_of:.0f}")
    both = Table("to a normalised batch", "workers", "ours, ms per image", "textbook", "ratio", "images/s per core")
    for row in rows:
        both.add_row(*row.cells())
    return [one, both]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.input", description="Time the input of training.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rounds", type=int, default=3, help="of which the fastest counts")
    options = parser.parse_args(argv)
    for table in tables(options.device, options.rounds):
        Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
