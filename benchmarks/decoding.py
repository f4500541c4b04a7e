"""The time saved by the cache of decoded test images when a run starts to evaluate.

::

    python -m benchmarks.decoding

Over JPEGs of 500 x 375 pixels that a CLIP wants at 224. "Start" is the time before a run's first evaluation,
"pass" is one evaluation's reading of all images, normalised, 256 at a time. Both ways must give the same values.
"""

import argparse
import hashlib
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
from lightning import Trainer
from PIL import Image
from rich.console import Console
from rich.table import Table

from datamodules import ImageFolderTask
from datamodules.image_cache import cache_bytes, cached_images
from datamodules.shard import TestShard
from gift_lightning.clip.transforms import split_transform

SIZE = (500, 375)
CLASSES = 10


def write_images(folder: Path, count: int) -> None:
    """Smooth pictures with some noise, as large when compressed as photographs are, ``count`` of them for testing."""
    random = np.random.default_rng(0)
    for index in range(count + CLASSES):
        split = "train" if index < CLASSES else "test"
        path = folder / split / f"class_{index % CLASSES}" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(SIZE, Image.Resampling.BICUBIC))
        noisy = smooth + random.normal(0, 6, (SIZE[1], SIZE[0], 1))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def measure(make: Callable[[], TestShard]) -> tuple[float, float, str]:
    """Seconds to make the shard, seconds of one pass over it, and a hash of all values."""
    began = time.perf_counter()
    shard = make()
    made = time.perf_counter()
    for first in range(0, len(shard), 256):
        _ = shard[first : first + 256]
    end = time.perf_counter()
    digest = hashlib.sha256(shard.labels.numpy().tobytes())
    for first in range(0, len(shard), 256):
        digest.update(shard[first : first + 256].numpy().tobytes())
    return made - began, end - made, digest.hexdigest()


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description="Seconds until a test set can be evaluated, with and without cache.")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=0, help="processes that decode")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    geometry, normalize = split_transform(open_clip.image_transform(224, is_train=False))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_images(folder / "images", options.images)
        task = ImageFolderTask(str(folder / "images"))
        task.setup()
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)

        def in_memory() -> TestShard:
            return TestShard(task.test_set, geometry, normalize, num_workers=options.workers)

        def cached() -> TestShard:
            return TestShard.of(
                *cached_images(trainer, folder / "cache", task, geometry, options.workers)[:2], normalize
            )

        ways = {"without cache": in_memory, "cache is made": cached, "cache exists": cached}
        rows = {name: measure(make) for name, make in ways.items()}
        size = cache_bytes(task, geometry)
    if len({values for *_, values in rows.values()}) != 1:
        raise RuntimeError("The values differ.")
    table = Table("", "start, s", "pass, s", "start and pass")
    whole = {name: start + one_pass for name, (start, one_pass, _) in rows.items()}
    for name, (start, one_pass, _) in rows.items():
        table.add_row(name, f"{start:.3f}", f"{one_pass:.2f}", f"{whole[name] / whole['cache exists']:.1f} x")
    Console().print(table, f"{options.images} images, {size / 1e6:.0f} MB decoded, {options.workers} worker processes")


if __name__ == "__main__":
    main()
