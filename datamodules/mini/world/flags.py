"""Flags of countries from a layout and colour words, on waving cloth in front of a sky."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from datamodules.mini.world.canvas import COLOURS, RGB, Drawing, Style, X, Y, ground, uniform
from datamodules.mini.world.shapes import SPRITES, sprite_bank

# layout, then its colours: see _LAYOUTS
FLAGS: dict[str, tuple[str, ...]] = {
    "france": ("vertical", "blue", "white", "red"),
    "italy": ("vertical", "green", "white", "red"),
    "ireland": ("vertical", "green", "white", "orange"),
    "belgium": ("vertical", "black", "yellow", "red"),
    "romania": ("vertical", "blue", "yellow", "red"),
    "mali": ("vertical", "green", "yellow", "red"),
    "guinea": ("vertical", "red", "yellow", "green"),
    "nigeria": ("vertical", "green", "white", "green"),
    "peru": ("vertical", "red", "white", "red"),
    "germany": ("horizontal", "black", "red", "yellow"),
    "netherlands": ("horizontal", "red", "white", "blue"),
    "russia": ("horizontal", "white", "blue", "red"),
    "austria": ("horizontal", "red", "white", "red"),
    "hungary": ("horizontal", "red", "white", "green"),
    "bulgaria": ("horizontal", "white", "green", "red"),
    "lithuania": ("horizontal", "yellow", "green", "red"),
    "estonia": ("horizontal", "blue", "black", "white"),
    "colombia": ("horizontal", "yellow", "blue", "red"),
    "armenia": ("horizontal", "red", "blue", "orange"),
    "yemen": ("horizontal", "red", "white", "black"),
    "ukraine": ("halves", "blue", "yellow"),
    "poland": ("halves", "white", "red"),
    "indonesia": ("halves", "red", "white"),
    "japan": ("disc", "white", "red"),
    "bangladesh": ("disc", "green", "red"),
    "palau": ("disc", "cyan", "yellow"),
    "sweden": ("cross", "blue", "yellow"),
    "denmark": ("cross", "red", "white"),
    "finland": ("cross", "white", "blue"),
    "switzerland": ("plus", "red", "white"),
    "vietnam": ("star", "red", "yellow"),
    "somalia": ("star", "cyan", "white"),
    "turkey": ("crescent", "red", "white"),
    "pakistan": ("crescent", "green", "white"),
    "czechia": ("wedge", "white", "red", "blue"),
    "sudan": ("wedge", "white", "black", "green"),
    "bahamas": ("wedge", "cyan", "yellow", "black"),
    "scotland": ("saltire", "blue", "white"),
    "jamaica": ("saltire", "green", "yellow"),
    "panama": ("quarters", "white", "red", "blue"),
}


def _soft(z: Tensor) -> Tensor:
    return torch.sigmoid(24 * z)


def _bands(position: Tensor, c: list[Tensor]) -> Tensor:
    first, last = _soft(-1 / 3 - position), _soft(position - 1 / 3)
    return c[0] * first + c[1] * (1 - first) * (1 - last) + c[2] * last


def _emblem(name: str, x: Tensor, y: Tensor, size: float) -> Tensor:
    """A sprite's mask in the coordinates of the cloth."""
    bank = sprite_bank()[[SPRITES.index(name)]].expand(len(x), -1, -1, -1)
    grid = torch.stack([x[:, 0] / size, y[:, 0] * 0.68 / size], -1)
    return torch.nn.functional.grid_sample(bank, grid, align_corners=False)


def _cloth(layout: str, c: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """The flag at cloth coordinates x (hoist to fly) and y (top to bottom) in [-1, 1]."""
    if layout == "vertical":
        return _bands(x, c)
    if layout == "horizontal":
        return _bands(y, c)
    if layout == "halves":
        return c[0] * _soft(-y) + c[1] * _soft(y)
    if layout == "wedge":
        halves, wedge = c[0] * _soft(-y) + c[1] * _soft(y), _soft(0.1 - x - y.abs() * 0.95)
        return halves * (1 - wedge) + c[2] * wedge
    if layout == "quarters":
        odd = _soft(4 * x * y)
        corner = c[2] * _soft(y) + c[1] * _soft(-y)
        return c[0] * odd + corner * (1 - odd)
    if layout == "disc":
        mark = _soft(0.5 - (x**2 + (y * 0.8) ** 2).sqrt())
    elif layout == "cross":
        mark = torch.maximum(_soft(0.16 - (x + 0.3).abs()), _soft(0.2 - y.abs()))
    elif layout == "plus":
        mark = torch.maximum(
            _soft(0.17 - x.abs()) * _soft(0.72 - y.abs()), _soft(0.24 - y.abs()) * _soft(0.5 - x.abs())
        )
    elif layout == "saltire":
        mark = _soft(0.2 - (x.abs() - y.abs()).abs())
    else:
        mark = _emblem(layout, x, y, 0.52)
    return c[0] * (1 - mark) + c[1] * mark


def draw(names: Sequence[str], style: Style, g: Generator) -> Drawing:
    """One waving flag per picture."""
    n = len(names)
    amplitude, phase = uniform(n, *style.wave, g), uniform(n, 0, 6.28, g)
    turn = uniform(n, -style.rotation, style.rotation, g) * 0.6
    width = uniform(n, 0.2 + style.scale[0], 0.1 + style.scale[1], g)
    dx, dy = uniform(n, -0.6 * style.shift, 0.6 * style.shift, g), uniform(n, -0.6 * style.shift, 0.6 * style.shift, g)
    x = (X - dx) * turn.cos() + (Y - dy) * turn.sin()
    y = -(X - dx) * turn.sin() + (Y - dy) * turn.cos() + amplitude * (5 * x + phase).sin()
    x, y = x / width, y / (width * 0.68)
    inside = torch.sigmoid(30 * (1 - x.abs())) * torch.sigmoid(30 * (1 - y.abs()))
    cloth = torch.empty(n, 3, *X.shape)
    for name in sorted(set(names)):
        rows = torch.tensor([i for i, other in enumerate(names) if other == name])
        layout, *words = FLAGS[name]
        colours = [RGB[COLOURS.index(word)] + torch.randn(len(rows), 3, generator=g) * 0.05 for word in words]
        cloth[rows] = _cloth(layout, [c.clamp(0, 1)[:, :, None, None] for c in colours], x[rows], y[rows])
    cloth = cloth * (1 + (0.06 + amplitude) * (5 * x * width + phase + 1).cos())
    sky = (torch.tensor([0.55, 0.75, 0.95]) + torch.randn(n, 3, generator=g) * 0.15).clamp(0, 1)[:, :, None, None]
    image = cloth * inside + ground(sky, style, g) * (1 - inside)
    return Drawing(image, (), (), [""] * n)
