"""The ground seen from above: one function per land use, from coordinates and noise."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datamodules.mini.world.canvas import SIZE, Drawing, Style, X, Y, any_direction, smooth_noise, uniform


def _rgb(r: float, g: float, b: float) -> Tensor:
    return torch.tensor([r, g, b])[None, :, None, None]


def _edge(z: Tensor, sharpness: float = 14.0) -> Tensor:
    return torch.sigmoid(sharpness * z)


def _hash(z: Tensor) -> Tensor:
    """A fixed pseudo-random number in [0, 1) per value: the same plot of land keeps its colour over all its pixels."""
    return torch.frac((z.sin() * 999.0).abs())


def _over(mask: Tensor, colour: Tensor, below: Tensor) -> Tensor:
    return below * (1 - mask) + colour * mask


class _Site:
    """Random coordinates of n sites: axes u, v; an offset o; a frequency f; green land between things."""

    def __init__(self, n: int, zoom: tuple[float, float], g: Generator) -> None:
        self.n, self.g = n, g
        self.u, self.v = any_direction(n, g)
        scale = uniform(n, zoom[0], zoom[1], g)
        self.u, self.v = self.u * scale, self.v * scale
        self.o = uniform(n, -0.45, 0.45, g)
        self.f = uniform(n, 5, 8, g)
        self.green = _rgb(0.30, 0.48, 0.22) + self.noise(6) * 0.06

    def noise(self, cells: int, channels: int = 1) -> Tensor:
        return smooth_noise(self.n, cells, self.g, channels)

    def uniform(self, low: float, high: float) -> Tensor:
        return uniform(self.n, low, high, self.g)

    def radius(self, spread: float = 0.3) -> Tensor:
        """Distance from a random centre."""
        return ((X - self.uniform(-spread, spread)) ** 2 + (Y - self.uniform(-spread, spread)) ** 2).sqrt()


def _forest(s: _Site) -> Tensor:
    return _rgb(0.10, 0.30, 0.13) + s.noise(16) * 0.09 + s.noise(6) * 0.04


def _orchard(s: _Site) -> Tensor:
    f = s.f * 2.2
    trees = _edge((f * s.u).cos() + (f * s.v).cos() - 0.7, 5)
    return _over(trees, _rgb(0.12, 0.34, 0.14), _rgb(0.48, 0.52, 0.28) + s.noise(6) * 0.04)


def _vineyard(s: _Site) -> Tensor:
    rows = _edge((s.f * 2.6 * s.u).sin(), 4)
    return _over(rows, _rgb(0.20, 0.40, 0.16) + s.noise(12) * 0.04, _rgb(0.58, 0.48, 0.32))


def _meadow(s: _Site) -> Tensor:
    return _rgb(0.45, 0.62, 0.26) + s.noise(4) * 0.05 + s.noise(20) * 0.03


def _farmland(s: _Site) -> Tensor:
    plot = torch.floor(s.u * 2.2 + 5 * s.o) * 7.1 + torch.floor(s.v * 1.8 + 3 * s.o) * 3.7
    h = _hash(plot)
    furrows = 0.06 * (16 * torch.where(h > 0.5, s.u, s.v)).sin()
    return _rgb(0.35, 0.50, 0.18) * h + _rgb(0.72, 0.62, 0.30) * (1 - h) + furrows


def _desert(s: _Site) -> Tensor:
    return _rgb(0.80, 0.66, 0.42) + 0.07 * (s.f * 1.2 * s.u + 1.5 * s.noise(4)).sin() + s.noise(10) * 0.02


def _snow(s: _Site) -> Tensor:
    return _rgb(0.90, 0.93, 0.97) + 0.08 * _edge(s.noise(5), 4) * _rgb(-0.8, -0.5, -0.1) + s.noise(12) * 0.015


def _mountain(s: _Site) -> Tensor:
    height = s.noise(5) + 0.5 * s.noise(10)
    slope = torch.diff(height, dim=3, prepend=height[..., :1])
    rock = _rgb(0.46, 0.41, 0.36) + 0.55 * slope
    return _over(_edge(height - 1.1, 8), _rgb(0.95, 0.96, 0.98), rock)


def _sea(s: _Site) -> Tensor:
    return _rgb(0.08, 0.22, 0.45) + s.noise(4) * 0.03 + 0.04 * (s.f * 3 * s.u + s.noise(5)).sin()


def _lake(s: _Site) -> Tensor:
    shore = 0.62 + 0.14 * s.noise(4) - s.radius() * 1.1
    return _over(_edge(shore, 16), _rgb(0.12, 0.30, 0.50) + s.noise(4) * 0.02, s.green)


def _island(s: _Site) -> Tensor:
    shore = 0.55 + 0.14 * s.noise(4) - s.radius()
    water = _rgb(0.08, 0.27, 0.50) + 0.03 * (s.f * 3 * s.u).sin()
    sand = _over(_edge(shore, 16), _rgb(0.84, 0.76, 0.55), water)
    return _over(_edge(shore - 0.12, 16), _rgb(0.18, 0.42, 0.18) + s.noise(12) * 0.06, sand)


def _river(s: _Site) -> Tensor:
    bed = s.uniform(0.14, 0.24) - (s.v - s.o + 0.28 * (2.6 * s.u + 6 * s.o).sin()).abs()
    return _over(_edge(bed), _rgb(0.15, 0.30, 0.48), s.green)


def _beach(s: _Site) -> Tensor:
    line = s.v - s.o * 0.6 + 0.06 * (5 * s.u).sin() + 0.04 * s.noise(5)
    shore = _over(_edge(line, 16), _rgb(0.10, 0.38, 0.55), _rgb(0.82, 0.73, 0.52))
    return _over(_edge(0.06 - line.abs(), 30), _rgb(0.95, 0.97, 0.97), shore)


def _swamp(s: _Site) -> Tensor:
    water = _edge(s.noise(8) - 0.2, 10)
    return _over(water, _rgb(0.16, 0.25, 0.26), _rgb(0.32, 0.40, 0.20) + s.noise(14) * 0.05)


def _highway(s: _Site) -> Tensor:
    across = (s.v - s.o).abs()
    road = _over(_edge(s.uniform(0.14, 0.2) - across, 30), _rgb(0.45, 0.45, 0.46), s.green)
    return _over(_edge(0.03 - across, 60), _rgb(0.95, 0.95, 0.90), road)


def _railway(s: _Site) -> Tensor:
    across = s.v - s.o
    bed = _over(_edge(0.2 - across.abs(), 30), _rgb(0.50, 0.42, 0.36), s.green)
    sleepers = _edge((26 * s.u).sin(), 4) * _edge(0.15 - across.abs(), 40)
    bed = _over(0.7 * sleepers, _rgb(0.22, 0.16, 0.12), bed)
    return _over(_edge(0.025 - (across.abs() - 0.08).abs(), 80), _rgb(0.80, 0.80, 0.82), bed)


def _runway(s: _Site) -> Tensor:
    across = (s.v - s.o * 0.6).abs()
    strip = _over(_edge(s.uniform(0.26, 0.34) - across, 30), _rgb(0.24, 0.24, 0.26), s.green * 0.6 + 0.2)
    dashes = _edge(0.035 - across, 60) * _edge((9 * s.u).sin(), 8)
    edges = _edge(0.02 - (across - 0.24).abs(), 80)
    return _over(torch.maximum(dashes, edges), _rgb(0.95, 0.95, 0.95), strip)


def _roundabout(s: _Site) -> Tensor:
    r = s.radius(0.15)
    arms = torch.maximum(_edge(0.11 - s.u.abs(), 30), _edge(0.11 - s.v.abs(), 30))
    circle = _edge(0.5 - r, 24)
    road = _over(torch.maximum(arms, circle), _rgb(0.46, 0.46, 0.47), s.green)
    return _over(_edge(0.26 - r, 24), _rgb(0.25, 0.52, 0.22), road)


def _residential(s: _Site) -> Tensor:
    m = _edge(torch.minimum((s.f * s.u).sin(), (s.f * s.v).sin()) - 0.15, 10)
    roof = _hash(torch.floor(s.f * s.u / (2 * math.pi)) * 3.3 + torch.floor(s.f * s.v / (2 * math.pi)) * 7.7)
    return _over(
        m,
        _rgb(0.65, 0.30, 0.22) * roof + _rgb(0.75, 0.70, 0.66) * (1 - roof),
        _rgb(0.42, 0.48, 0.36) + s.noise(12) * 0.05,
    )


def _downtown(s: _Site) -> Tensor:
    m = _edge(torch.minimum((s.f * 1.1 * s.u).sin(), (s.f * 0.9 * s.v).sin()) + 0.5, 14)
    height = _hash(
        torch.floor(s.f * 1.1 * s.u / (2 * math.pi)) * 5.1 + torch.floor(s.f * 0.9 * s.v / (2 * math.pi)) * 9.3
    )
    return _over(m, _rgb(0.55, 0.58, 0.64) * (0.55 + 0.9 * height), _rgb(0.25, 0.25, 0.27))


def _industrial(s: _Site) -> Tensor:
    m = _edge(torch.minimum((s.f * 0.42 * s.u + 3 * s.o).sin(), (s.f * 0.55 * s.v).sin()) - 0.25, 16)
    return _over(m, _rgb(0.88, 0.88, 0.90) + 0.05 * (30 * s.u).sin(), _rgb(0.45, 0.44, 0.42) + s.noise(8) * 0.03)


def _parking(s: _Site) -> Tensor:
    m = _edge(torch.minimum((16 * s.u).sin() - 0.1, (5.2 * s.v).sin() - 0.2), 10)
    cars = F.interpolate(torch.rand(s.n, 3, 8, 8, generator=s.g), size=(SIZE, SIZE), mode="nearest")
    return _over(m, cars, _rgb(0.40, 0.40, 0.42))


def _harbor(s: _Site) -> Tensor:
    water = _rgb(0.14, 0.26, 0.40) + s.noise(5) * 0.02
    piers = _edge((4.6 * s.u + 4 * s.o).cos() - 0.86, 30) * _edge(s.v + 0.5, 20)
    boats = _edge(torch.minimum((4.6 * s.u + 4 * s.o).sin().abs() - 0.55, (11 * s.v).sin() - 0.2), 10) * _edge(
        s.v + 0.5, 20
    )
    quay = _edge(-0.55 - s.v, 20)
    return _over(boats, _rgb(0.93, 0.92, 0.90), _over(torch.maximum(piers, quay), _rgb(0.60, 0.56, 0.50), water))


def _stadium(s: _Site) -> Tensor:
    r = ((s.u / 1.3) ** 2 + s.v**2).sqrt()
    stands = _over(
        _edge(0.68 - r, 20), _rgb(0.72, 0.66, 0.64) + s.noise(20) * 0.06, _rgb(0.48, 0.47, 0.46) + s.noise(6) * 0.03
    )
    track = _over(_edge(0.50 - r, 20), _rgb(0.70, 0.33, 0.22), stands)
    return _over(_edge(0.38 - r, 20), _rgb(0.24, 0.56, 0.22), track)


def _golf(s: _Site) -> Tensor:
    fairway = _edge(s.noise(4) - 0.1, 10)
    course = _over(fairway, _rgb(0.42, 0.70, 0.30), _rgb(0.16, 0.38, 0.16) + s.noise(14) * 0.05)
    return _over(_edge(s.noise(7) - 1.3, 12), _rgb(0.90, 0.84, 0.64), course)


LAND_USES: dict[str, Callable[[_Site], Tensor]] = {
    "forest": _forest,
    "orchard": _orchard,
    "vineyard": _vineyard,
    "meadow": _meadow,
    "farmland": _farmland,
    "desert": _desert,
    "snow": _snow,
    "mountains": _mountain,
    "sea": _sea,
    "lake": _lake,
    "island": _island,
    "river": _river,
    "beach": _beach,
    "swamp": _swamp,
    "highway": _highway,
    "railway": _railway,
    "runway": _runway,
    "roundabout": _roundabout,
    "residential": _residential,
    "downtown": _downtown,
    "industrial": _industrial,
    "parking": _parking,
    "harbor": _harbor,
    "stadium": _stadium,
    "golf": _golf,
}
"""The renderer of each land use."""


def draw(names: Sequence[str], style: Style, g: Generator) -> Drawing:
    """One site per picture."""
    n = len(names)
    image = torch.empty(n, 3, SIZE, SIZE)
    for name in sorted(set(names)):
        rows = torch.tensor([i for i, other in enumerate(names) if other == name])
        image[rows] = LAND_USES[name](_Site(len(rows), style.zoom, g)).expand(len(rows), 3, SIZE, SIZE)
    return Drawing(image, (), (), [""] * n)
