"""The general world of MiniMTIL: captioned 32 x 32 pictures, a stand-in for the data CLIP is pre-trained on.

``KINDS`` has the class names of each kind of picture, :func:`draw` draws any of them in the world's style, and
:func:`stream` is the endless captioned mixture on which the small CLIP is pre-trained. All randomness comes from the
generator or the seed that the caller passes; nothing is rendered at import.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Generator, Tensor

from datamodules.mini.world import captions, flags, land, scenes, textures
from datamodules.mini.world.canvas import COLOURS, SIZE, Drawing, Style, photograph
from datamodules.mini.world.scenes import COUNTS, NEVER_SHOWN
from datamodules.mini.world.shapes import DIGITS, LETTERS, OBJECTS, SHAPES, SPRITES

WORLD_VERSION = 1  # raised whenever a seed would give other pictures or captions


@dataclass(frozen=True)
class Kind:
    """A family of pictures.

    Attributes:
        names: of the classes it can show.
        draw: the renderer, from class names to pictures.
        caption: the text on a picture, from class name, two colours, detail and a generator.
        share: of the world's pictures.
        drawable: whether hatching and contours make sense for it.
    """

    names: tuple[str, ...]
    draw: Callable[[Sequence[str], Style, Generator], Drawing]
    caption: Callable[[str, str, str, str, Random], str]
    share: float
    drawable: bool = True


KINDS: dict[str, Kind] = {
    "sprite": Kind(SPRITES, scenes.draw_sprites, captions.sprite, 0.32),
    "digit": Kind(DIGITS, scenes.draw_glyphs, captions.glyph, 0.08),
    "letter": Kind(LETTERS, scenes.draw_glyphs, captions.glyph, 0.08),
    "texture": Kind(tuple(textures.TEXTURES), textures.draw, captions.texture, 0.17, drawable=False),
    "count": Kind(COUNTS, scenes.draw_counts, captions.count, 0.13, drawable=False),
    "land": Kind(tuple(land.LAND_USES), land.draw, captions.land, 0.11, drawable=False),
    "flag": Kind(tuple(flags.FLAGS), flags.draw, captions.flag, 0.11, drawable=False),
}
"""The kinds of pictures by name."""

PHOTO = Style()
"""The style of photos."""
SKETCH = Style(outline=0.45, hatch=0.35, wobble=0.04, noise=0.03)
"""The style of drawings: contours, hatching."""
ROUGH = Style(
    scale=(0.45, 0.85),
    rotation=0.45,
    wobble=0.04,
    wave=(0.04, 0.13),
    zoom=(0.8, 1.2),
    hatch=0.1,
    outline=0.1,
    speck=0.18,
    cast=0.10,
    gray=0.15,
    haze=0.3,
    blur=0.35,
    fade=0.4,
    noise=0.09,
)
"""The style of bad photos."""
TIDY = Style(
    scale=(0.7, 0.85),
    rotation=0.08,
    shift=0.05,
    wobble=0.005,
    wave=(0.0, 0.03),
    zoom=(1.1, 0.85),
    noise=0.015,
)
"""As in a catalogue: the object in the middle, upright, nothing blurred. The world itself has no such pictures."""
TIDY_SKETCH = replace(TIDY, outline=0.45, hatch=0.25)
"""Tidy, as a drawing."""
ALIGNED, ALIGNED_SKETCH = replace(TIDY, aligned=1.0), replace(TIDY_SKETCH, aligned=1.0)
"""Tidy, with textures along the axes and counted things in rows."""

STYLE_SHARES = {"photo": 0.62, "sketch": 0.13, "rough": 0.25}
"""Share of each style in the world."""
_STYLES = {
    "photo": (PHOTO, captions.PHOTO),
    "sketch": (SKETCH, captions.SKETCH),
    "rough": (ROUGH, captions.ROUGH),
    "tidy": (TIDY, captions.PHOTO),
    "tidy sketch": (TIDY_SKETCH, captions.SKETCH),
    "aligned": (ALIGNED, captions.PHOTO),
    "aligned sketch": (ALIGNED_SKETCH, captions.SKETCH),
}
_UNDRAWN = {"sketch": "rough", "tidy sketch": "tidy", "aligned sketch": "aligned"}
"""The style in the place of a drawn one, for kinds that are not ``drawable``."""


def draw(kind: str, names: Sequence[str], generator: Generator, style: Style = PHOTO) -> Tensor:
    """Pictures of classes of one kind: uint8 ``[n, 3, SIZE, SIZE]``.

    Args:
        kind: a key of ``KINDS``.
        names: of the n classes.
        generator: of everything random.
        style: of the pictures.

    Raises:
        ValueError: the kind has no class of a name.
    """
    unknown = sorted(set(names) - set(KINDS[kind].names))
    if unknown:
        raise ValueError(f"the kind {kind!r} cannot show {unknown}; it shows {list(KINDS[kind].names)}")
    return photograph(KINDS[kind].draw(names, style, generator).images, style, generator)


def _captioned(kind: str, how: str, n: int, rng: Random, generator: Generator) -> tuple[Tensor, list[str]]:
    """``n`` pictures of one kind in one style, with captions."""
    family = KINDS[kind]
    style, openings = _STYLES[how if family.drawable else _UNDRAWN.get(how, how)]
    names = [rng.choice(family.names) for _ in range(n)]
    drawing = family.draw(names, style, generator)
    blank = [""] * n
    facts = zip(names, drawing.first or blank, drawing.second or blank, drawing.detail or blank, strict=True)
    # One opening for all: "a photo of a star" and "a picture of a star" in one batch would only push each other away.
    opening = rng.choice(openings)
    texts = [opening.format(family.caption(name, first, second, detail, rng)) for name, first, second, detail in facts]
    return photograph(drawing.images, style, generator), texts


def stream(
    n: int, seed: int, kinds: Mapping[str, float] | None = None, styles: Mapping[str, float] = STYLE_SHARES
) -> tuple[Tensor, list[str]]:
    """``n`` captioned pictures of the general world, a pure function of its arguments.

    Within a call all captions of one kind and style open with the same words.

    Args:
        n: number of pictures.
        seed: of everything random.
        kinds: share of each kind; that of ``KINDS`` by default.
        styles: share of each style: "photo", "sketch", "rough", "tidy", "tidy sketch", "aligned" and "aligned sketch".

    Returns:
        Images, uint8 ``[n, 3, SIZE, SIZE]``, and ``n`` captions.
    """
    rng = Random(seed)
    generator = torch.Generator().manual_seed(seed)
    kinds = kinds or {kind: family.share for kind, family in KINDS.items()}
    mixture = [(kind, how) for kind in kinds for how in styles]
    shares = [kinds[kind] * styles[how] for kind, how in mixture]
    drawn = rng.choices(range(len(mixture)), shares, k=n)
    groups = [
        _captioned(kind, how, drawn.count(i), rng, generator) for i, (kind, how) in enumerate(mixture) if i in drawn
    ]
    images = torch.cat([pictures for pictures, _ in groups])
    texts = [caption for _, captions in groups for caption in captions]
    order = torch.randperm(n, generator=generator)
    return images[order], [texts[i] for i in order.tolist()]


__all__ = [
    "COLOURS",
    "COUNTS",
    "DIGITS",
    "KINDS",
    "LETTERS",
    "NEVER_SHOWN",
    "OBJECTS",
    "PHOTO",
    "ROUGH",
    "SHAPES",
    "SIZE",
    "SKETCH",
    "SPRITES",
    "WORLD_VERSION",
    "Kind",
    "Style",
    "draw",
    "photograph",
    "stream",
]
