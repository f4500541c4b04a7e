"""Textures from coordinates: one function per name, ``[n, 1, SIZE, SIZE]`` in [0, 1], mixed between two colours."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from datamodules.mini.world.canvas import (
    COLOURS,
    SIZE,
    Drawing,
    Style,
    X,
    Y,
    any_direction,
    contrasting,
    paint,
    smooth_noise,
    uniform,
)


class _Frame:
    """Random coordinates for n pictures: axes u, v; polar r, theta; frequency f; phases p, q."""

    def __init__(self, n: int, zoom: tuple[float, float], g: Generator, aligned: float = 0.0) -> None:
        self.n, self.g, free = n, g, 1 - aligned
        self.u, self.v = any_direction(n, g, free * math.pi)
        self.f = uniform(n, 7 * zoom[0] + 3 * aligned, 16 * zoom[1] - 3 * aligned, g)
        self.p, self.q = uniform(n, 0, free * 2 * math.pi, g), uniform(n, 0, free * 2 * math.pi, g)
        x, y = X - uniform(n, -0.4 * free, 0.4 * free, g), Y - uniform(n, -0.4 * free, 0.4 * free, g)
        self.r, self.theta = (x**2 + y**2).sqrt(), torch.atan2(y, x)

    def integers(self, low: int, high: int) -> Tensor:
        return torch.randint(low, high, (self.n, 1, 1, 1), generator=self.g)

    def noise(self, cells: int) -> Tensor:
        return smooth_noise(self.n, cells, self.g)

    def cells(self, count: int) -> tuple[Tensor, Tensor]:
        """Distances to the nearest and second nearest of ``count`` scattered points."""
        points = torch.rand(self.n, count, 2, 1, 1, generator=self.g) * 2.4 - 1.2
        distance = ((X - points[:, :, 0]) ** 2 + (Y - points[:, :, 1]) ** 2).sqrt()
        nearest = distance.topk(2, dim=1, largest=False).values
        return nearest[:, :1], nearest[:, 1:]


def _step(z: Tensor, sharpness: float = 4.0) -> Tensor:
    return torch.sigmoid(sharpness * z)


def _zigzag(c: _Frame) -> Tensor:
    fold = (torch.remainder(c.u * c.f * 0.25 + c.p, 2) - 1).abs()
    return _step((c.f * (c.v + 0.45 * fold)).sin(), 5)


def _woven(c: _Frame) -> Tensor:
    over = ((c.f * 0.35 * c.u + c.p).sin() * (c.f * 0.35 * c.v + c.q).sin() > 0).float()
    return over * _step((c.f * 1.4 * c.u).sin()) + (1 - over) * _step((c.f * 1.4 * c.v).sin())


def _bricked(c: _Frame) -> Tensor:
    height = c.v * c.f * 0.3 + c.p
    along = c.u * c.f * 0.16 + 0.5 * torch.remainder(torch.floor(height), 2) + c.q
    joint = torch.maximum(
        (torch.remainder(along, 1) - 0.5).abs() - 0.42, (torch.remainder(height, 1) - 0.5).abs() - 0.4
    )
    return 1 - _step(joint, 40)


def _honeycombed(c: _Frame) -> Tensor:
    waves = (c.f * c.u).cos() + (c.f * (-0.5 * c.u + 0.866 * c.v)).cos() + (c.f * (-0.5 * c.u - 0.866 * c.v)).cos()
    return _step(-waves - 0.6, 6)


def _scaly(c: _Frame) -> Tensor:
    row = torch.floor(c.v * c.f * 0.3 + c.p)
    x = torch.remainder(c.u * c.f * 0.25 + 0.5 * torch.remainder(row, 2) + c.q, 1) - 0.5
    y = torch.remainder(c.v * c.f * 0.3 + c.p, 1)
    return (y - 1.6 * x**2).clamp(0, 1) * _step(0.85 - (4 * x**2 + y**2).sqrt(), 20) + 0.05


def _plaid(c: _Frame) -> Tensor:
    return 0.5 * _step((c.f * 0.6 * c.u + c.p).sin(), 8) + 0.5 * _step((c.f * 0.6 * c.v + c.q).sin(), 8)


def _crosshatched(c: _Frame) -> Tensor:
    slanted = 0.6 * c.u + 0.8 * c.v
    return torch.maximum(
        _step((c.f * 1.3 * c.u + c.p).cos() - 0.75, 12), _step((c.f * 1.3 * slanted + c.q).cos() - 0.75, 12)
    )


def _bubbly(c: _Frame) -> Tensor:
    nearest, _ = c.cells(9)
    return _step(0.05 - (nearest - 0.22).abs(), 45)


def _studded(c: _Frame) -> Tensor:
    bump = (c.f * 0.6 * c.u + c.p).cos() + (c.f * 0.6 * c.v + c.q).cos()
    slope = (c.f * 0.6 * c.u + c.p).sin() + (c.f * 0.6 * c.v + c.q).sin()
    return 0.35 + _step(bump - 0.3, 8) * (0.15 + 0.35 * slope)


def _cracked(c: _Frame) -> Tensor:
    nearest, second = c.cells(10)
    return _step(0.06 - (second - nearest), 40)


def _pebbled(c: _Frame) -> Tensor:
    nearest, second = c.cells(16)
    return _step(second - nearest - 0.12, 18) * (1 - 0.8 * nearest)


TEXTURES: dict[str, Callable[[_Frame], Tensor]] = {
    "striped": lambda c: _step((c.f * c.u + c.p).sin()),
    "banded": lambda c: _step((c.f * 0.4 * c.u + c.p).sin() + 0.45 * (c.f * 1.2 * c.u + c.q).sin(), 6),
    "checkered": lambda c: _step((c.f * 0.7 * c.u + c.p).sin() * (c.f * 0.7 * c.v + c.q).sin(), 9),
    "dotted": lambda c: _step((c.f * c.u + c.p).cos() + (c.f * c.v + c.q).cos() - 0.9, 7),
    "zigzag": _zigzag,
    "grid": lambda c: _step(
        torch.maximum((c.f * 0.7 * c.u + c.p).cos().abs(), (c.f * 0.7 * c.v + c.q).cos().abs()) - 0.9, 22
    ),
    "spiral": lambda c: _step((c.f * 0.8 * c.r + c.integers(1, 3) * c.theta * torch.sign(c.q - math.pi) + c.p).sin()),
    "ringed": lambda c: _step((c.f * c.r + c.p).sin()),
    "wavy": lambda c: _step((c.f * 0.9 * (c.v + 0.22 * (c.u * c.f * 0.5 + c.p).sin()) + c.q).sin()),
    "marbled": lambda c: _step((c.f * 0.5 * c.u + 3.2 * c.noise(6) + c.p).sin(), 3),
    "speckled": lambda c: _step(c.noise(20) - 0.7, 5),
    "blotchy": lambda c: _step(c.noise(6), 8),
    "woven": _woven,
    "honeycombed": _honeycombed,
    "scaly": _scaly,
    "crosshatched": _crosshatched,
    "cracked": _cracked,
    "bubbly": _bubbly,
    "plaid": _plaid,
    "bricked": _bricked,
    "rayed": lambda c: _step((c.integers(4, 10) * c.theta + c.p).sin()),
    "pebbled": _pebbled,
    "studded": _studded,
    "smooth": lambda c: (0.5 + 0.5 * c.u).clamp(0, 1),
}
"""The renderer of each texture."""


def pattern(name: str, n: int, zoom: tuple[float, float], g: Generator, aligned: float = 0.0) -> Tensor:
    """``[n, 1, SIZE, SIZE]`` fields of one texture."""
    return TEXTURES[name](_Frame(n, zoom, g, aligned)).clamp(0, 1).expand(n, 1, SIZE, SIZE)


def draw(names: Sequence[str], style: Style, g: Generator) -> Drawing:
    """One texture per picture, in two contrasting colours."""
    n = len(names)
    first = torch.randint(len(COLOURS), (n,), generator=g)
    second = contrasting(first, g)
    mix = torch.empty(n, 1, SIZE, SIZE)
    for name in sorted(set(names)):
        rows = torch.tensor([i for i, other in enumerate(names) if other == name])
        mix[rows] = pattern(name, len(rows), style.zoom, g, style.aligned)
    if style.speck:
        mix = mix * uniform(n, 0.75, 1, g) + smooth_noise(n, 4, g) * style.speck * 0.5
    image = paint(first, g) * mix + paint(second, g) * (1 - mix)
    return Drawing(image, [COLOURS[i] for i in first.tolist()], [COLOURS[i] for i in second.tolist()], [""] * n)
