"""Image files of several formats, and what disks and networks do to them."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "PNG": ("png", {}),
    "TIFF with LZW": ("tiff", {"compression": "tiff_lzw"}),
    "TIFF with deflate": ("tiff", {"compression": "tiff_adobe_deflate"}),
    "JPEG": ("jpg", {"quality": 90}),
    "progressive JPEG": ("jpg", {"quality": 90, "progressive": True}),
    "WebP": ("webp", {"quality": 80}),
    "lossless WebP": ("webp", {"lossless": True}),
    "GIF": ("gif", {}),
    "BMP": ("bmp", {}),
}
"""Suffix and settings of each kind of file."""


def encoded(kind: str, size: tuple[int, int] = (96, 72), seed: int = 0) -> bytes:
    """A file of a kind, with an image of edges, slopes and noise."""
    rng, (width, height) = np.random.default_rng(seed), size
    slopes = np.add.outer(np.arange(height), np.arange(width))[..., None] * [1.0, 0.5, 2.0]
    edges = 60 * rng.integers(0, 2, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    pixels = (slopes + edges + rng.normal(0, 4, (height, width, 3))) % 256
    suffix, settings = FORMATS[kind]
    file = io.BytesIO()
    image = Image.fromarray(pixels.astype(np.uint8))
    image.save(file, {"jpg": "JPEG", "tiff": "TIFF"}.get(suffix, suffix), **settings)
    return file.getvalue()


def hole(data: bytes, rng: Random) -> bytes:
    """A block of zeros, as a file has whose copying was broken off or whose disk lost it."""
    size = min(4096, len(data) // 5)
    start = rng.randrange(len(data) - size)
    return data[:start] + bytes(size) + data[start + size :]


def flip(data: bytes, rng: Random) -> bytes:
    """One bit is another."""
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def cut(data: bytes, rng: Random) -> bytes:
    """The end is missing."""
    return data[: rng.randrange(1, len(data))]


DAMAGES: dict[str, Callable[[bytes, Random], bytes]] = {"hole": hole, "flip": flip, "cut": cut}


def plain(file: Path) -> Image.Image | None:
    """What plain Pillow makes of a file, in the mode that it has; ``None`` if it refuses it."""
    with contextlib.suppress(Exception), Image.open(file) as image:
        image.load()
        return image
    return None
