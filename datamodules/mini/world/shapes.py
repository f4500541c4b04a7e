"""Shapes, objects, letters and digits as banks of masks, and the sampler that places them."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

from datamodules.mini.world.canvas import SIZE, X, Y, uniform
from datamodules.mini.world.silhouettes import OBJECTS, SHAPES, Primitive

_BANK = 64  # resolution of the stored masks
_FINE = 256  # resolution they are painted at


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
"""Class names of digits, from zero."""
LETTERS = tuple("abcdefghjklmnpqrtuvwxyz")  # without i, o and s, which are 1, 0 and 5 at this size
SPRITES = (*SHAPES, *OBJECTS)
"""Class names of shapes and objects."""
GLYPHS = (*DIGITS, *LETTERS)
"""Class names of digits and letters."""

# Fonts of the dependencies: pillow's default, in two weights, and those of matplotlib.
_FONTS = (
    ("", 0),
    ("", 6),
    ("DejaVuSans.ttf", 2),
    ("DejaVuSerif.ttf", 3),
    ("DejaVuSansMono-Bold.ttf", 0),
    ("STIXGeneral.ttf", 5),
    ("DejaVuSans-Oblique.ttf", 4),
    ("cmr10.ttf", 5),
)


def _silhouette(primitives: tuple[Primitive, ...]) -> Image.Image:
    image = Image.new("L", (_FINE, _FINE))
    pen = ImageDraw.Draw(image)
    half = _FINE / 2

    def at(x: float, y: float) -> tuple[float, float]:
        return half + x * half * 0.92, half + y * half * 0.92  # a margin, so that samples outside the object are 0

    for name, *numbers in primitives:
        fill = 0 if name.endswith("-") else 255
        if name.startswith("poly"):
            pen.polygon([at(*point) for point in numbers], fill=fill)
        elif name.startswith("oval"):
            x, y, rx, ry = numbers
            pen.ellipse([at(x - rx, y - ry), at(x + rx, y + ry)], fill=fill)
        else:
            x0, y0, x1, y1 = numbers
            pen.rectangle([at(x0, y0), at(x1, y1)], fill=fill)
    return image


def _letter(character: str, font: str, weight: int) -> Image.Image:
    if font:
        import matplotlib

        face: Any = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / font), 220)
    else:
        face = ImageFont.load_default(220)
    image = Image.new("L", (_FINE, _FINE))
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = pen.textbbox((0, 0), character, font=face)
    origin = (_FINE / 2 - (left + right) / 2, _FINE / 2 - (top + bottom) / 2)
    pen.text(origin, character, font=face, fill=255, stroke_width=2 * weight, stroke_fill=255)
    return image


def _mask(image: Image.Image) -> Tensor:
    small = image.resize((_BANK, _BANK), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)


@cache
def sprite_bank() -> Tensor:
    """``[number of SPRITES, 1, 64, 64]`` masks in the order of SPRITES."""
    return torch.stack([_mask(_silhouette({**SHAPES, **OBJECTS}[name])) for name in SPRITES])[:, None]


@cache
def glyph_bank() -> Tensor:
    """``[number of GLYPHS x fonts, 1, 64, 64]`` masks; row = glyph index x number of fonts + font."""
    marks = [str(i) for i in range(10)] + [c.upper() for c in LETTERS]
    return torch.stack([_mask(_letter(mark, font, weight)) for mark in marks for font, weight in _FONTS])[:, None]


FONTS = len(_FONTS)
"""Number of fonts of a glyph."""


def place(
    masks: Tensor,
    half_width: Tensor,
    angle: Tensor,
    dx: Tensor,
    dy: Tensor,
    stretch: Tensor,
    wobble: float,
    g: Generator,
) -> Tensor:
    """Masks ``[n, 1, 64, 64]``, resized, turned, moved and slightly deformed: ``[n, 1, SIZE, SIZE]``.

    Args:
        masks: of the objects.
        half_width, angle, dx, dy, stretch: the poses, ``[n, 1, 1, 1]`` each, in half-images and radians.
        wobble: strength of the deformation.
        g: of the deformation.
    """
    n = len(masks)
    x, y = (X - dx)[:, 0], (Y - dy)[:, 0]
    if wobble:
        field = F.interpolate(
            torch.randn(n, 2, 4, 4, generator=g) * wobble, size=(SIZE, SIZE), mode="bicubic", align_corners=False
        )
        x, y = x + field[:, 0], y + field[:, 1]
    c, s, wide, high = angle.cos()[:, 0], angle.sin()[:, 0], (half_width * stretch)[:, 0], (half_width / stretch)[:, 0]
    grid = torch.stack([(c * x + s * y) / wide, (-s * x + c * y) / high], -1)
    return F.grid_sample(masks, grid, mode="bilinear", align_corners=False)


def scattered(
    masks: Tensor, style_scale: tuple[float, float], rotation: float, shift: float, wobble: float, g: Generator
) -> Tensor:
    """Masks ``[n, 1, 64, 64]`` at random poses, one object per picture: ``[n, 1, SIZE, SIZE]``."""
    n = len(masks)
    return place(
        masks,
        uniform(n, *style_scale, g),
        uniform(n, -rotation, rotation, g),
        uniform(n, -shift, shift, g),
        uniform(n, -shift, shift, g),
        uniform(n, 0.87, 1.15, g),
        wobble,
        g,
    )
