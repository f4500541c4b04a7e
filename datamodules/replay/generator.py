"""Text to image: the interface of a generator."""

from typing import Any

from PIL import Image

from gift_lightning.sources import Source


class ImageGenerator:
    """Draws images from prompts.

    Attributes:
        batch_size: images drawn at a time; a matter of speed and memory.
    """

    batch_size: int

    def prepare(self) -> None:
        """Fetch the files that drawing needs, or raise an ``InputError``; called before a run begins."""

    def sources(self) -> list[Source]:
        """The files that drawing needs on this machine beside the package itself; none for most."""
        return []

    def image_bytes(self) -> int | None:
        """About how many bytes an image takes in a file; ``None`` if only a drawn one shows it."""
        return None

    def identity(self) -> dict[str, Any]:
        """The settings that decide the images beside prompt and seed, as JSON values."""
        raise NotImplementedError(f"{type(self).__name__} has no identity.")

    def generate(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
        """One image for each prompt; image ``i`` depends on ``prompts[i]`` and ``seeds[i]`` alone."""
        raise NotImplementedError(f"{type(self).__name__} has no generate.")

    def check(self, prompts: list[str]) -> None:
        """Raise an ``InputError`` if one of ``prompts`` cannot be drawn; called before the first image of a task."""

    def release(self) -> None:
        """Give memory back until the next call; called after the last image of a task."""
