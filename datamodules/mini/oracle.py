"""Image generators that are no models, for comparison: the renderer of the general world itself, and noise."""

from typing import Any

import torch
from PIL import Image
from torch import Generator, Tensor

from datamodules.mini.prompts import read_prompt
from datamodules.mini.world import PHOTO, SIZE, SKETCH, WORLD_VERSION, draw
from datamodules.replay.generator import ImageGenerator
from gift_lightning.seeding import stream_seed


class OracleGenerator(ImageGenerator):
    """Has the renderer of the general world draw what a prompt names: what no generator can do better.

    It reads the templates of MiniMTIL's tasks and the prompts in ``general_prompts.txt``. Drawings and sketches are in
    the world's sketched style, all else looks like a photo; never like the pictures of a task.

    Args:
        batch_size: how many images to ask for at a time; it changes none of them.
    """

    INDIFFERENT = frozenset({"batch_size"})

    def __init__(self, batch_size: int = 64) -> None:
        self.batch_size = batch_size

    def identity(self) -> dict[str, Any]:
        """What the images depend on, beside prompt and seed."""
        return {"name": type(self).__name__, "world": WORLD_VERSION}

    def check(self, prompts: list[str]) -> None:
        """Raise an ``InputError`` if one of ``prompts`` cannot be read."""
        for prompt in prompts:
            read_prompt(prompt)

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        """One 32 x 32 image for each prompt and its seed; an ``InputError`` for a prompt that cannot be read."""
        return [_image(_draw(prompt, seed)) for prompt, seed in zip(prompts, seeds, strict=True)]


class NoiseGenerator(ImageGenerator):
    """Makes images of uniform noise whatever the prompt, to see what a method gains from what is on the images.

    Args:
        size: width and height in pixels.
        batch_size: how many images to ask for at a time; it changes none of them.
    """

    INDIFFERENT = frozenset({"batch_size"})

    def __init__(self, size: int = SIZE, batch_size: int = 64) -> None:
        self.size, self.batch_size = size, batch_size

    def identity(self) -> dict[str, Any]:
        """What the images depend on, beside the seed."""
        return {"name": type(self).__name__, "size": self.size}

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        """One image for each prompt and its seed."""
        shape = (3, self.size, self.size)
        return [
            _image(torch.randint(256, shape, generator=_random(seed, "noise"), dtype=torch.uint8))
            for _, seed in zip(prompts, seeds, strict=True)
        ]


def _draw(prompt: str, seed: int) -> Tensor:
    """One picture at a time: in a batch, it would depend on its neighbours."""
    kind, name = read_prompt(prompt)
    style = SKETCH if prompt.startswith(("a drawing of ", "a sketch of ")) else PHOTO
    return draw(kind, [name], _random(seed, "oracle"), style)[0]


def _random(seed: int, name: str) -> Generator:
    return torch.Generator().manual_seed(stream_seed(seed, name))


def _image(picture: Tensor) -> Image.Image:
    """A uint8 picture (3, H, W) as an RGB image."""
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
