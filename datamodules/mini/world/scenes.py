"""Pictures of one sprite, of one letter or digit, and of several equal sprites."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from datamodules.mini.world import textures
from datamodules.mini.world.canvas import COLOURS, SIZE, Drawing, Style, compose, contrasting, ground, paint, uniform
from datamodules.mini.world.shapes import FONTS, GLYPHS, SPRITES, glyph_bank, place, scattered, sprite_bank

COUNTS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
"""Class names of counts, from one."""
FILLS = ("striped", "checkered", "dotted", "zigzag", "grid")
"""Textures that fill a sprite."""

# Colour-sprite pairs that the general world never shows, alone or counted: one colour per sprite.
NEVER_SHOWN = frozenset((COLOURS[(5 * i + 2) % len(COLOURS)], name) for i, name in enumerate(SPRITES))

_ALLOWED = torch.tensor([[float((colour, name) not in NEVER_SHOWN) for colour in COLOURS] for name in SPRITES])


def _colours(index: Tensor | None, n: int, g: Generator) -> tuple[Tensor, Tensor]:
    """Object and background colours; for sprites (``index`` given) only pairs the world shows."""
    if index is None:
        first = torch.randint(len(COLOURS), (n,), generator=g)
    else:
        first = torch.multinomial(_ALLOWED[index], 1, generator=g)[:, 0]
    return first, contrasting(first, g)


def _names(colours: Tensor) -> list[str]:
    return [COLOURS[i] for i in colours.tolist()]


def draw_sprites(
    names: Sequence[str], style: Style, g: Generator, pattern_share: float = 0.12, every_colour: bool = False
) -> Drawing:
    """One shape or object per picture; a share of them filled with a pattern (``detail``)."""
    n = len(names)
    index = torch.tensor([SPRITES.index(name) for name in names])
    first, second = _colours(None if every_colour else index, n, g)
    mask = scattered(sprite_bank()[index], style.scale, style.rotation, style.shift, style.wobble, g)
    rgb = paint(first, g).expand(n, 3, SIZE, SIZE).clone()
    kind = torch.where(torch.rand(n, generator=g) < pattern_share, torch.randint(len(FILLS), (n,), generator=g), -1)
    for k, fill in enumerate(FILLS):
        rows = (kind == k).nonzero()[:, 0]
        if len(rows):
            mix = textures.pattern(fill, len(rows), (1.0, 1.0), g)
            light = (rgb[rows].mean((1, 2, 3), keepdim=True) < 0.4).float()
            rgb[rows] = rgb[rows] * mix + (0.1 + 0.8 * light) * (1 - mix)
    behind = ground(paint(second, g), style, g)
    detail = ["" if k < 0 else FILLS[k] for k in kind.tolist()]
    return Drawing(compose(mask, rgb, behind, style, g), _names(first), _names(second), detail)


def draw_glyphs(names: Sequence[str], style: Style, g: Generator, handwritten: float = 0.3) -> Drawing:
    """One letter or digit per picture, in a random font; a share with shaky outlines, as if by hand (``detail``)."""
    n = len(names)
    index = torch.tensor([GLYPHS.index(name) for name in names]) * FONTS + torch.randint(FONTS, (n,), generator=g)
    first, second = _colours(None, n, g)
    shaky = torch.rand(n, generator=g) < handwritten
    scale = (1.4 * style.scale[0], 1.25 * style.scale[1])
    masks = glyph_bank()[index]
    steady = scattered(masks, scale, 0.6 * style.rotation, 0.8 * style.shift, style.wobble, g)
    by_hand = scattered(masks, scale, 0.6 * style.rotation, 0.5 * style.shift, 0.10, g)
    mask = torch.where(shaky[:, None, None, None], by_hand, steady)
    behind = ground(paint(second, g), style, g)
    detail = ["handwritten" if hand else "" for hand in shaky.tolist()]
    return Drawing(compose(mask, paint(first, g), behind, style, g), _names(first), _names(second), detail)


def draw_counts(names: Sequence[str], style: Style, g: Generator, mixed: bool = False) -> Drawing:
    """As many sprites as the name says in the cells of a jittered 3 x 3 grid.

    They are copies of one sprite (``detail``), or ``mixed`` ones of any colour.
    """
    n = len(names)
    count = torch.tensor([COUNTS.index(name) + 1 for name in names])
    index = (
        torch.randint(len(SPRITES), (n, 9), generator=g)
        if mixed
        else torch.randint(len(SPRITES), (n, 1), generator=g).expand(n, 9)
    )
    first, second = _colours(None if mixed else index[:, 0], n, g)
    bank = sprite_bank()
    cell = torch.rand(n, 9, generator=g).mul(1 - style.aligned).add(style.aligned * torch.arange(9)).argsort(1)
    half_width = uniform(n, 0.36 * style.scale[0] + 0.03, 0.36 * style.scale[1], g)
    together, jitter = torch.zeros(n, 1, SIZE, SIZE), 0.08 * (1 - style.aligned)
    for i in range(int(count.max())):
        rows = (count > i).nonzero()[:, 0]
        m = len(rows)
        x = ((cell[rows, i] % 3) - 1)[:, None, None, None] * 0.64 + uniform(m, -jitter, jitter, g)
        y = ((cell[rows, i] // 3) - 1)[:, None, None, None] * 0.64 + uniform(m, -jitter, jitter, g)
        size, turn = half_width[rows] * uniform(m, 0.9, 1.1, g), uniform(m, -style.rotation, style.rotation, g)
        one = place(bank[index[rows, i]], size, turn, x, y, torch.ones(m, 1, 1, 1), 0.0, g)
        together[rows] = torch.maximum(together[rows], one)
    behind = ground(paint(second, g), style, g)
    # Contours and hatching fill up objects of six pixels, so counted objects are always solid.
    image = compose(together, paint(first, g), behind, Style(shadow=style.shadow), g)
    return Drawing(image, _names(first), _names(second), [SPRITES[i] for i in index[:, 0].tolist()])
