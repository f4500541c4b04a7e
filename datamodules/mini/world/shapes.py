"""Silhouettes of shapes and objects, and letters and digits in several fonts, as one bank of masks moved about by a sampler.

Every silhouette is a short list of primitives in [-1, 1] (y points down), painted in order; a primitive whose name ends in ``-`` erases.
"""

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

from datamodules.mini.world.canvas import SIZE, X, Y, uniform

Primitive = tuple[Any, ...]
_BANK = 64  # resolution of the stored masks
_FINE = 256  # resolution they are painted at


def _ngon(k: int, radius: float = 0.95, start: float = -90.0) -> Primitive:
    turn = [math.radians(start + 360 * i / k) for i in range(k)]
    return ("poly", *[(radius * math.cos(t), radius * math.sin(t)) for t in turn])


def _star(k: int, outer: float = 1.0, inner: float = 0.4) -> Primitive:
    turn = [math.radians(-90 + 180 * i / k) for i in range(2 * k)]
    return ("poly", *[((inner if i % 2 else outer) * math.cos(t), (inner if i % 2 else outer) * math.sin(t)) for i, t in enumerate(turn)])


SHAPES: dict[str, tuple[Primitive, ...]] = {
    "circle": (("oval", 0, 0, 0.9, 0.9),),
    "oval": (("oval", 0, 0, 0.97, 0.58),),
    "square": (("box", -0.78, -0.78, 0.78, 0.78),),
    "rectangle": (("box", -0.95, -0.55, 0.95, 0.55),),
    "triangle": (("poly", (0, -0.95), (0.95, 0.8), (-0.95, 0.8)),),
    "trapezoid": (("poly", (-0.5, -0.65), (0.5, -0.65), (0.97, 0.65), (-0.97, 0.65)),),
    "diamond": (("poly", (0, -1), (0.62, 0), (0, 1), (-0.62, 0)),),
    "pentagon": (_ngon(5),),
    "hexagon": (_ngon(6),),
    "octagon": (_ngon(8, 0.95, -67.5),),
    "star": (_star(5),),
    "ring": (("oval", 0, 0, 0.92, 0.92), ("oval-", 0, 0, 0.55, 0.55)),
    "frame": (("box", -0.82, -0.82, 0.82, 0.82), ("box-", -0.48, -0.48, 0.48, 0.48)),
    "cross": (("box", -0.3, -0.95, 0.3, 0.95), ("box", -0.95, -0.3, 0.95, 0.3)),
    "heart": (("oval", -0.47, -0.35, 0.48, 0.48), ("oval", 0.47, -0.35, 0.48, 0.48), ("poly", (-0.93, -0.2), (0.93, -0.2), (0, 0.95))),
    "crescent": (("oval", -0.05, 0, 0.92, 0.92), ("oval-", 0.4, 0, 0.75, 0.75)),
    "semicircle": (("oval", 0, 0.5, 0.97, 1.15), ("box-", -1, 0.5, 1, 1.7)),
    "arrow": (("poly", (-0.95, -0.28), (0.1, -0.28), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.28), (-0.95, 0.28)),),
    "chevron": (("poly", (-0.8, -0.9), (-0.1, -0.9), (0.8, 0), (-0.1, 0.9), (-0.8, 0.9), (0.1, 0)),),
    "drop": (("oval", 0, 0.35, 0.62, 0.62), ("poly", (0, -1), (0.58, 0.15), (-0.58, 0.15))),
}

OBJECTS: dict[str, tuple[Primitive, ...]] = {
    "house": (("poly", (0, -0.95), (0.95, -0.1), (-0.95, -0.1)), ("box", -0.7, -0.1, 0.7, 0.9), ("box-", -0.18, 0.35, 0.18, 0.9)),
    "tree": (("oval", 0, -0.5, 0.5, 0.48), ("oval", -0.42, -0.05, 0.45, 0.42), ("oval", 0.42, -0.05, 0.45, 0.42), ("box", -0.14, 0, 0.14, 0.95)),
    "pine": (("poly", (0, -1), (0.5, -0.3), (-0.5, -0.3)), ("poly", (0, -0.7), (0.65, 0.2), (-0.65, 0.2)), ("poly", (0, -0.3), (0.8, 0.65), (-0.8, 0.65)),
             ("box", -0.13, 0.6, 0.13, 0.97)),
    "fish": (("oval", -0.2, 0, 0.75, 0.5), ("poly", (0.3, 0), (0.98, -0.6), (0.98, 0.6)), ("oval-", -0.6, -0.12, 0.1, 0.1)),
    "mushroom": (("oval", 0, 0.05, 0.92, 0.9), ("box-", -1, 0.05, 1, 1), ("box", -0.25, 0, 0.25, 0.9)),
    "boat": (("poly", (-0.95, 0.35), (0.95, 0.35), (0.55, 0.9), (-0.55, 0.9)), ("poly", (0, -0.8), (0, 0.2), (-0.6, 0.2)),
             ("poly", (0.12, -0.95), (0.85, 0.2), (0.12, 0.2))),
    "flower": (*[("oval", 0.6 * math.cos(i * math.pi / 3), 0.6 * math.sin(i * math.pi / 3), 0.33, 0.33) for i in range(6)],
               ("oval", 0, 0, 0.45, 0.45), ("oval-", 0, 0, 0.22, 0.22)),
    "cloud": (("oval", -0.5, 0.15, 0.45, 0.38), ("oval", 0.5, 0.15, 0.45, 0.38), ("oval", -0.1, -0.2, 0.45, 0.45), ("oval", 0, 0.25, 0.6, 0.3)),
    "bolt": (("poly", (0.25, -1), (-0.6, 0.15), (-0.05, 0.15), (-0.3, 1), (0.6, -0.2), (0.05, -0.2)),),
    "umbrella": (("oval", 0, 0, 0.92, 0.85), ("box-", -1, 0, 1, 1), ("box", -0.06, 0, 0.08, 0.9), ("box", 0.08, 0.75, 0.35, 0.9)),
    "key": (("oval", -0.5, 0, 0.45, 0.45), ("oval-", -0.5, 0, 0.2, 0.2), ("box", -0.1, -0.1, 0.95, 0.12), ("box", 0.45, 0.1, 0.58, 0.45),
            ("box", 0.75, 0.1, 0.9, 0.45)),
    "cup": (("oval", 0.5, -0.05, 0.42, 0.4), ("oval-", 0.5, -0.05, 0.22, 0.2), ("box", -0.7, -0.7, 0.42, 0.75)),
    "car": (("poly", (-0.55, -0.1), (-0.3, -0.6), (0.35, -0.6), (0.6, -0.1)), ("box", -0.95, -0.1, 0.95, 0.35), ("oval", -0.5, 0.38, 0.24, 0.24),
            ("oval", 0.5, 0.38, 0.24, 0.24)),
    "sun": (_star(10, 1.0, 0.68), ("oval-", 0, 0, 0.62, 0.62), ("oval", 0, 0, 0.5, 0.5)),
    "apple": (("oval", -0.3, 0.2, 0.58, 0.68), ("oval", 0.3, 0.2, 0.58, 0.68), ("box", -0.06, -0.8, 0.08, -0.3), ("oval", 0.35, -0.72, 0.3, 0.14)),
    "bell": (("oval", 0, -0.15, 0.55, 0.75), ("poly", (-0.54, 0), (0.54, 0), (0.92, 0.6), (-0.92, 0.6)), ("oval", 0, 0.72, 0.2, 0.2)),
    "bottle": (("box", -0.2, -1, 0.2, -0.3), ("oval", 0, -0.15, 0.48, 0.35), ("box", -0.48, -0.15, 0.48, 0.98)),
    "hat": (("box", -0.98, 0.45, 0.98, 0.72), ("box", -0.52, -0.75, 0.52, 0.2), ("box-", -0.52, 0.2, 0.52, 0.3), ("box", -0.52, 0.3, 0.52, 0.5)),
    "leaf": (("oval", 0, -0.12, 0.5, 0.8), ("poly", (-0.25, -0.7), (0, -1), (0.25, -0.7)), ("box", -0.05, 0.5, 0.06, 1), ("box-", -0.04, -0.6, 0.04, 0.5)),
    "butterfly": (("oval", -0.5, -0.4, 0.45, 0.48), ("oval", 0.5, -0.4, 0.45, 0.48), ("oval", -0.4, 0.42, 0.36, 0.4), ("oval", 0.4, 0.42, 0.36, 0.4),
                  ("box", -0.08, -0.7, 0.08, 0.7)),
    "anchor": (("oval", 0, -0.72, 0.25, 0.25), ("oval-", 0, -0.72, 0.1, 0.1), ("oval", 0, 0.2, 0.85, 0.75), ("oval-", 0, 0.08, 0.66, 0.6), ("box-", -1, -0.45, 1, 0.2),
               ("oval", 0, -0.72, 0.25, 0.25), ("oval-", 0, -0.72, 0.1, 0.1), ("box", -0.09, -0.5, 0.09, 0.9), ("box", -0.45, -0.38, 0.45, -0.2)),
    "crown": (("poly", (-0.9, 0.75), (-0.95, -0.6), (-0.45, 0.05), (0, -0.85), (0.45, 0.05), (0.95, -0.6), (0.9, 0.75)),),
    "ghost": (("oval", 0, -0.25, 0.7, 0.72), ("box", -0.7, -0.25, 0.7, 0.7), ("poly", (-0.7, 0.7), (-0.23, 0.7), (-0.47, 1)), ("poly", (-0.23, 0.7), (0.23, 0.7), (0, 1)),
              ("poly", (0.23, 0.7), (0.7, 0.7), (0.47, 1)), ("oval-", -0.27, -0.25, 0.15, 0.2), ("oval-", 0.27, -0.25, 0.15, 0.2)),
    "rocket": (("oval", 0, -0.3, 0.34, 0.7), ("box", -0.33, -0.3, 0.33, 0.6), ("poly", (-0.33, 0.1), (-0.8, 0.8), (-0.33, 0.6)), ("poly", (0.33, 0.1), (0.8, 0.8), (0.33, 0.6)),
               ("poly", (-0.2, 0.65), (0.2, 0.65), (0, 1)), ("oval-", 0, -0.3, 0.15, 0.15)),
    "snowman": (("oval", 0, 0.45, 0.58, 0.52), ("oval", 0, -0.3, 0.38, 0.36), ("box", -0.28, -0.98, 0.28, -0.58), ("box", -0.45, -0.68, 0.45, -0.56)),
    "cat": (("oval", 0, 0.15, 0.75, 0.7), ("poly", (-0.72, 0.1), (-0.7, -0.95), (-0.1, -0.45)), ("poly", (0.72, 0.1), (0.7, -0.95), (0.1, -0.45)),
            ("oval-", -0.3, 0.05, 0.12, 0.15), ("oval-", 0.3, 0.05, 0.12, 0.15)),
    "rabbit": (("oval", 0, 0.42, 0.55, 0.52), ("oval", -0.3, -0.45, 0.19, 0.55), ("oval", 0.3, -0.45, 0.19, 0.55), ("oval-", -0.2, 0.35, 0.1, 0.12),
               ("oval-", 0.2, 0.35, 0.1, 0.12)),
    "plane": (("oval", 0, 0, 0.17, 0.97), ("poly", (0, -0.35), (0.98, 0.3), (0.98, 0.5), (0, 0.2), (-0.98, 0.5), (-0.98, 0.3)),
              ("poly", (0, 0.55), (0.42, 0.85), (0.42, 0.97), (-0.42, 0.97), (-0.42, 0.85))),
    "hourglass": (("poly", (-0.65, -0.85), (0.65, -0.85), (-0.65, 0.85), (0.65, 0.85)), ("box", -0.8, -0.98, 0.8, -0.8), ("box", -0.8, 0.8, 0.8, 0.98)),
    "shirt": (("box", -0.5, -0.75, 0.5, 0.9), ("poly", (-0.5, -0.75), (-1, -0.25), (-0.75, 0.1), (-0.45, -0.15)),
              ("poly", (0.5, -0.75), (1, -0.25), (0.75, 0.1), (0.45, -0.15)), ("oval-", 0, -0.78, 0.25, 0.22)),
    "chair": (("box", -0.6, -0.95, -0.4, 0.95), ("box", -0.6, 0.05, 0.6, 0.28), ("box", 0.4, 0.1, 0.6, 0.95), ("box", -0.6, -0.95, -0.25, -0.1)),
    "table": (("box", -0.97, -0.4, 0.97, -0.15), ("box", -0.78, -0.3, -0.58, 0.75), ("box", 0.58, -0.3, 0.78, 0.75)),
    "candle": (("box", -0.28, -0.2, 0.28, 0.95), ("oval", 0, -0.6, 0.18, 0.3), ("poly", (-0.12, -0.75), (0, -1), (0.12, -0.75)), ("box", -0.04, -0.35, 0.04, -0.2)),
    "pencil": (("poly", (-0.98, 0), (-0.55, -0.26), (-0.55, 0.26)), ("box", -0.5, -0.26, 0.65, 0.26), ("box", 0.72, -0.26, 0.97, 0.26)),
    "hammer": (("box", -0.12, -0.5, 0.12, 0.97), ("box", -0.7, -0.92, 0.45, -0.42), ("poly", (0.45, -0.92), (0.85, -0.55), (0.45, -0.5))),
    "envelope": (("box", -0.95, -0.62, 0.95, 0.62), ("poly-", (-0.95, -0.62), (0, 0.2), (0.95, -0.62), (0.95, -0.4), (0, 0.42), (-0.95, -0.4))),
}

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = tuple("abcdefghjklmnpqrtuvwxyz")  # without i, o and s, which are 1, 0 and 5 at this size
SPRITES = (*SHAPES, *OBJECTS)
GLYPHS = (*DIGITS, *LETTERS)

# Fonts that come with libraries this project already needs: pillow's own, in two weights, and those of matplotlib.
_FONTS = (("", 0), ("", 6), ("DejaVuSans.ttf", 2), ("DejaVuSerif.ttf", 3), ("DejaVuSansMono-Bold.ttf", 0), ("STIXGeneral.ttf", 5), ("DejaVuSans-Oblique.ttf", 4), ("cmr10.ttf", 5))


def _silhouette(primitives: tuple[Primitive, ...]) -> Image.Image:
    image = Image.new("L", (_FINE, _FINE))
    pen = ImageDraw.Draw(image)
    half = _FINE / 2

    def at(x: float, y: float) -> tuple[float, float]:
        return half + x * half * 0.92, half + y * half * 0.92  # a margin, so that sampling outside finds nothing

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
    """(number of SPRITES, 1, 64, 64) masks in the order of SPRITES."""
    return torch.stack([_mask(_silhouette({**SHAPES, **OBJECTS}[name])) for name in SPRITES])[:, None]


@cache
def glyph_bank() -> Tensor:
    """(number of GLYPHS x fonts, 1, 64, 64) masks; row = glyph index x number of fonts + font."""
    marks = [str(i) for i in range(10)] + [c.upper() for c in LETTERS]
    return torch.stack([_mask(_letter(mark, font, weight)) for mark in marks for font, weight in _FONTS])[:, None]


FONTS = len(_FONTS)


def place(masks: Tensor, half_width: Tensor, angle: Tensor, dx: Tensor, dy: Tensor, stretch: Tensor, wobble: float, g: Generator) -> Tensor:
    """Masks (n, 1, 64, 64) resized, turned, moved and slightly deformed -> (n, 1, SIZE, SIZE). The other tensors are (n, 1, 1, 1)."""
    n = len(masks)
    x, y = (X - dx)[:, 0], (Y - dy)[:, 0]
    if wobble:
        field = F.interpolate(torch.randn(n, 2, 4, 4, generator=g) * wobble, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
        x, y = x + field[:, 0], y + field[:, 1]
    c, s, wide, high = angle.cos()[:, 0], angle.sin()[:, 0], (half_width * stretch)[:, 0], (half_width / stretch)[:, 0]
    grid = torch.stack([(c * x + s * y) / wide, (-s * x + c * y) / high], -1)
    return F.grid_sample(masks, grid, mode="bilinear", align_corners=False)


def scattered(masks: Tensor, style_scale: tuple[float, float], rotation: float, shift: float, wobble: float, g: Generator) -> Tensor:
    """One object per picture at a random pose."""
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
