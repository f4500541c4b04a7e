"""Generators that fail on the way."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from PIL import Image

from datamodules.mini import OracleGenerator
from gift_lightning.errors import InputError
from tests.e2e.kill import die


class DyingGenerator(OracleGenerator):
    """Kills its process when half of an image is written.

    Args:
        batch_size: images drawn at a time.
        die_at: number of that image, counted from 0 over all that the process writes.
    """

    def __init__(self, batch_size: int = 4, die_at: int = 0) -> None:
        super().__init__(batch_size)
        whole, left = Image.Image.save, [die_at]

        def half(image: Image.Image, path: Path, **options: Any) -> None:
            whole(image, path, **options)
            if left[0] == 0:
                os.truncate(path, os.path.getsize(path) // 2)
                die()
            left[0] -= 1

        Image.Image.save = half  # type: ignore[assignment, method-assign]


class FailingGenerator(OracleGenerator):
    """Cannot draw its second batch.

    Args:
        batch_size: images drawn at a time.
        rank: the rank on which it fails.
    """

    def __init__(self, batch_size: int = 4, rank: int = 0) -> None:
        super().__init__(batch_size)
        self.rank, self.batches = rank, 0

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        self.batches += 1
        if self.batches == 2 and os.environ.get("RANK", "0") == str(self.rank):
            raise InputError(f"Rank {self.rank} has no more paint: buy some.")
        return super().generate(prompts, seeds)


class StoppedGenerator(OracleGenerator):
    """Sends SIGTERM to its process while it draws its second batch, as a cluster does when time is up."""

    batches = 0

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        self.batches += 1
        if self.batches == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().generate(prompts, seeds)


class SlowGenerator(OracleGenerator):
    """Takes its time, as a large model does.

    Args:
        batch_size: images drawn at a time.
        seconds: for each batch.
    """

    INDIFFERENT = frozenset({"seconds"})

    def __init__(self, batch_size: int = 4, seconds: float = 0.1) -> None:
        super().__init__(batch_size)
        self.seconds = seconds

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        time.sleep(self.seconds)
        return super().generate(prompts, seeds)
