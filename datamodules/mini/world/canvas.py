"""The common functions of all renderers: pixel grid, palette, random numbers from a generator, and the camera."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

SIZE = 32
"""Height and width of a picture in pixels."""

_line = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
Y, X = torch.meshgrid(_line, _line, indexing="ij")  # (SIZE, SIZE) each, in [-1, 1]

PALETTE = {
    "red": (0.86, 0.12, 0.12),
    "orange": (0.96, 0.55, 0.10),
    "yellow": (0.95, 0.88, 0.15),
    "green": (0.15, 0.62, 0.20),
    "blue": (0.12, 0.25, 0.85),
    "purple": (0.52, 0.15, 0.68),
    "pink": (0.97, 0.55, 0.75),
    "brown": (0.45, 0.27, 0.12),
    "gray": (0.52, 0.52, 0.52),
    "black": (0.05, 0.05, 0.05),
    "white": (0.96, 0.96, 0.96),
    "cyan": (0.15, 0.80, 0.85),
}
"""RGB in [0, 1] of each colour name."""
COLOURS = tuple(PALETTE)
"""The colour names, in the order of ``RGB``."""
RGB = torch.tensor([PALETTE[c] for c in COLOURS])  # (12, 3)
_CONTRAST = (torch.cdist(RGB, RGB) > 0.5).float()  # 1 for pairs of colours that a person distinguishes at a glance


@dataclass(frozen=True)
class Style:
    """The manner of taking or drawing pictures, independent of their content.

    Fields that are zero draw no random numbers, so a new field with default zero leaves every existing style as it was.
    """

    scale: tuple[float, float] = (0.5, 0.9)  # half-width of a sprite, in half-images
    rotation: float = 0.35  # largest angle, radians
    shift: float = 0.2  # largest offset from the centre
    wobble: float = 0.02  # smooth deformation of outlines
    wave: tuple[float, float] = (0.0, 0.07)  # amplitude of cloth
    zoom: tuple[float, float] = (1.0, 1.0)  # factor on the spatial frequency of textures and land
    aligned: float = 0.0  # how far textures and counted things lose their random angles, phases and places
    hatch: float = 0.0  # share of objects filled with lines
    outline: float = 0.0  # share of objects drawn as a strong contour around a paler inside
    speck: float = 0.0  # strength of blotches behind the object
    cast: float = 0.0  # random mixing of the colour channels
    infrared: float = 0.0  # mean share of the near-infrared composite (vegetation red, water black)
    gray: float = 0.0  # share of pictures without colour
    haze: float = 0.0  # largest share of white veil
    blur: float = 0.0  # share of pictures out of focus
    fade: float = 0.0  # largest loss of contrast
    shadow: float = 0.0  # strength of a cast shadow
    noise: float = 0.04  # largest standard deviation of sensor noise


@dataclass(frozen=True)
class Drawing:
    """Rendered pictures and the words for their captions.

    Attributes:
        images: float ``[n, 3, SIZE, SIZE]``, before the camera (:func:`photograph`).
        first, second: colour names, one per picture, or empty for a kind without colours.
        detail: a further word per picture (the counted sprite, the pattern of a fill), or empty strings.
    """

    images: Tensor
    first: Sequence[str] = ()
    second: Sequence[str] = ()
    detail: Sequence[str] = ()


def uniform(n: int, low: float, high: float, g: Generator) -> Tensor:
    """``[n, 1, 1, 1]`` samples of U(low, high)."""
    return torch.rand(n, 1, 1, 1, generator=g) * (high - low) + low


def happens(n: int, share: float, g: Generator) -> Tensor:
    """``[n, 1, 1, 1]`` float mask: 1 with probability ``share``."""
    return (torch.rand(n, 1, 1, 1, generator=g) < share).float()


def smooth_noise(n: int, cells: int, g: Generator, channels: int = 1) -> Tensor:
    """``[n, channels, SIZE, SIZE]`` Gaussian noise of about ``cells`` blobs per side."""
    coarse = torch.randn(n, channels, cells, cells, generator=g)
    return F.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic", align_corners=False)


def rotated(n: int, angle: float, g: Generator) -> tuple[Tensor, Tensor]:
    """Coordinates ``[n, 1, SIZE, SIZE]`` of axes turned by up to +-``angle``."""
    a = uniform(n, -angle, angle, g)
    return a.cos() * X + a.sin() * Y, -a.sin() * X + a.cos() * Y


def any_direction(n: int, g: Generator, most: float = math.pi) -> tuple[Tensor, Tensor]:
    """Coordinates ``[n, 1, SIZE, SIZE]`` of axes turned at random, by ``most`` at most."""
    a = uniform(n, 0, most, g)
    return a.cos() * X + a.sin() * Y, -a.sin() * X + a.cos() * Y


def contrasting(first: Tensor, g: Generator) -> Tensor:
    """For colour indices ``[n]``, indices ``[n]`` of contrasting colours."""
    return torch.multinomial(_CONTRAST[first], 1, generator=g)[:, 0]


def paint(colours: Tensor, g: Generator, jitter: float = 0.07) -> Tensor:
    """Colour indices ``[n]`` -> slightly varied RGB ``[n, 3, 1, 1]``."""
    rgb = RGB[colours]
    return (rgb + torch.randn(rgb.shape, generator=g) * jitter).clamp(0, 1)[:, :, None, None]


def ground(rgb: Tensor, style: Style, g: Generator) -> Tensor:
    """A background of the colours ``[n, 3, 1, 1]``: plain or graded, with blotches in styles with ``speck``."""
    n = len(rgb)
    slope = uniform(n, -0.25, 0.25, g) * X + uniform(n, -0.25, 0.25, g) * Y
    image = rgb + slope * happens(n, 0.6, g) + smooth_noise(n, 5, g) * 0.05 * happens(n, 0.4, g)
    if style.speck:
        image = (
            image
            + smooth_noise(n, 8, g, 3) * style.speck * 0.6
            + (torch.sigmoid(8 * smooth_noise(n, 6, g)) - 0.5) * style.speck
        )
    return image


def dilate(mask: Tensor) -> Tensor:
    """Grow a soft mask ``[n, 1, SIZE, SIZE]`` by one pixel."""
    return F.max_pool2d(mask, 3, 1, 1)


def erode(mask: Tensor) -> Tensor:
    """Shrink a soft mask ``[n, 1, SIZE, SIZE]`` by one pixel."""
    return -F.max_pool2d(-mask, 3, 1, 1)


def compose(mask: Tensor, rgb: Tensor, behind: Tensor, style: Style, g: Generator) -> Tensor:
    """Paint an object of colours ``rgb [n, 3, 1, 1]`` and shape ``mask [n, 1, SIZE, SIZE]`` over ``behind``."""
    n = len(mask)
    if style.shadow:
        cast = F.pad(mask, (3, 0, 3, 0))[:, :, :SIZE, :SIZE]
        behind = behind * (1 - style.shadow * cast)
    strength = torch.ones(n, 1, SIZE, SIZE)
    if style.hatch:
        u, _ = any_direction(n, g)
        lines = torch.sigmoid(4 * (uniform(n, 9, 16, g) * u + uniform(n, 0, 6.28, g)).sin())
        strength = torch.where(happens(n, style.hatch, g) > 0, 0.25 + 0.75 * lines, strength)
    if style.outline:
        contour = (dilate(mask) - erode(mask)).clamp(0, 1)
        drawn = torch.maximum(0.35 * mask, contour)
        contoured = happens(n, style.outline, g) > 0
        mask = torch.where(contoured, drawn, mask)
        strength = torch.where(contoured, torch.ones_like(strength), strength)
    mask = mask * strength
    return behind * (1 - mask) + rgb * mask


def photograph(image: Tensor, style: Style, g: Generator) -> Tensor:
    """The camera: colour response, haze, focus, exposure, noise. Float ``[n, 3, SIZE, SIZE]`` -> uint8, same shape."""
    n = len(image)
    if style.infrared:
        share = uniform(n, max(0.0, 2 * style.infrared - 1), min(1.0, 2 * style.infrared), g)
        red, green, blue = image.unbind(1)
        plants = (green - 0.5 * (red + blue)).clamp(min=0)
        composite = torch.stack([(0.7 * red + 4.5 * plants - 0.5 * blue).clamp(0, 1), 0.9 * red, 0.8 * green], 1)
        image = image * (1 - share) + composite * share
    if style.cast:
        mix = torch.eye(3) + torch.randn(n, 3, 3, generator=g) * style.cast
        image = torch.einsum("nij,njhw->nihw", mix, image)
    if style.gray:
        image = torch.where(happens(n, style.gray, g) > 0, image.mean(1, keepdim=True).expand_as(image), image)
    if style.haze:
        veil = uniform(n, 0, style.haze, g)
        image = image * (1 - veil) + 0.85 * veil
    if style.fade:
        keep = 1 - uniform(n, 0, style.fade, g)
        centre = image.mean((1, 2, 3), keepdim=True)
        image = centre + (image - centre) * keep
    if style.blur:
        soft = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
        image = torch.where(happens(n, style.blur, g) > 0, soft, image)
    image = image * uniform(n, 0.85, 1.1, g)
    image = image + torch.randn(image.shape, generator=g) * style.noise * torch.rand(n, 1, 1, 1, generator=g)
    return (image.clamp(0, 1) * 255).to(torch.uint8)
