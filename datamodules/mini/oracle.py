"""Image generators without a model, for comparison: the renderer of the general world, and noise."""

from typing import Any

import torch
from PIL import Image
from torch import Generator, Tensor

from datamodules.mini.prompts import read_prompt
from datamodules.mini.world import PHOTO, SIZE, SKETCH, WORLD_VERSION, draw
from datamodules.replay.generator import ImageGenerator
from gift_lightning.seeding import stream_seed


class OracleGenerator(ImageGenerator):
    """The renderer of the general world draws the class in a prompt: the upper bound of a generator.

    It reads the templates of MiniMTIL's tasks and the prompts in ``general_prompts.txt``. Drawings and sketches have
    the world's sketched style, all other images its photo style, never the style of a task.

    Args:
        batch_size: images in one call; without effect on the images.
    """

    INDIFFERENT = frozenset({"batch_size"})

    def __init__(self, batch_size: int = 64) -> None:
        self.batch_size = batch_size

    def identity(self) -> dict[str, Any]:
        """The settings that the images depend on, beside prompt and seed."""
        return {"name": type(self).__name__, "world": WORLD_VERSION}

    def check(self, prompts: list[str]) -> None:
        """Check that all prompts can be read.

        Raises:
            InputError: a prompt of another form.
        """
        for prompt in prompts:
            read_prompt(prompt)

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        """One 32 x 32 image for each prompt and its seed.

        Raises:
            InputError: a prompt of another form.
        """
        return [_image(_draw(prompt, seed)) for prompt, seed in zip(prompts, seeds, strict=True)]


class NoiseGenerator(ImageGenerator):
    """Images of uniform noise for any prompt: a baseline that shows the gain from the content of the images.

    Args:
        size: width and height in pixels.
        batch_size: images in one call; without effect on the images.
    """

    INDIFFERENT = frozenset({"batch_size"})

    def __init__(self, size: int = SIZE, batch_size: int = 64) -> None:
        self.size, self.batch_size = size, batch_size

    def identity(self) -> dict[str, Any]:
        """The settings that the images depend on, beside the seed."""
        return {"name": type(self).__name__, "size": self.size}

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        """One image for each prompt and its seed."""
        shape = (3, self.size, self.size)
        return [
            _image(torch.randint(256, shape, generator=_random(seed, "noise"), dtype=torch.uint8))
            for _, seed in zip(prompts, seeds, strict=True)
        ]


def _draw(prompt: str, seed: int) -> Tensor:
    """One picture, drawn alone: in a batch, it would depend on its neighbours."""
    kind, name = read_prompt(prompt)
    style = SKETCH if prompt.startswith(("a drawing of ", "a sketch of ")) else PHOTO
    return draw(kind, [name], _random(seed, "oracle"), style)[0]


def _random(seed: int, name: str) -> Generator:
    return torch.Generator().manual_seed(stream_seed(seed, name))


def _image(picture: Tensor) -> Image.Image:
    """A uint8 picture ``[3, H, W]`` as an RGB image."""
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
