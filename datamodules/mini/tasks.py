"""The six tasks of MiniMTIL: real digits, and five drawn ones, each in a style that the general world lacks."""

import hashlib
import json
import math
from abc import abstractmethod
from random import Random

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from datamodules.base import Task
from datamodules.mini.pictures import Pictures
from gift_lightning.errors import InputError

TASKS_VERSION = 1  # raised whenever the pictures or labels of a task change
_CHUNK = 200  # pictures drawn at a time; a seed belongs to a chunk, so a smaller set is a prefix of a larger one


def _seed(*key: object) -> int:
    """A 63-bit seed from a key, the same in every process."""
    return int.from_bytes(hashlib.sha256(json.dumps(key).encode()).digest()[:8], "big") >> 1


def _photocopy(images: Tensor) -> Tensor:
    """Shades of gray, stretched so that every picture keeps its contrast: float ``[n, 3, H, W]``."""
    gray = images.mean(1, keepdim=True)
    low, high = gray.amin((2, 3), keepdim=True), gray.amax((2, 3), keepdim=True)
    return (0.15 + 0.7 * (gray - low) / (high - low).clamp(min=0.05)).expand_as(images)


def _relief(images: Tensor, share: float) -> Tensor:
    """Embossed, with light from the upper left: float ``[n, 3, H, W]``."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    slope = padded[:, :, 2:, 2:] - padded[:, :, :-2, :-2]
    return (1 - share) * images + share * (0.5 + 1.2 * slope)


def _behind_blinds(images: Tensor, strength: float, generator: Generator) -> Tensor:
    """With the light and shade of blinds on everything: float ``[n, 3, H, W]``."""
    from datamodules.mini.world.canvas import any_direction, uniform

    n = len(images)
    across, _ = any_direction(n, generator)
    slats = (uniform(n, 8, 13, generator) * across + uniform(n, 0, 2 * math.pi, generator)).sin()
    return images + strength * (torch.sigmoid(5 * slats) - 0.5)


def _old_print(images: Tensor, share: float) -> Tensor:
    """Colours faded towards sepia: float ``[n, 3, H, W]``."""
    gray = images.mean(1, keepdim=True)
    sepia = torch.cat([1.05 * gray + 0.05, 0.85 * gray + 0.03, 0.6 * gray], 1)
    return (1 - share) * images + share * sepia


class MiniTask(Task):
    """A small task that needs no download: 32 x 32 pictures, made in ``setup``.

    Args:
        train_size: number of training images; a smaller set is a prefix of a larger one.
        test_size: number of test images, likewise.
        shots: training images of each class; ``data.shots`` if not given.

    Raises:
        InputError: a set would be empty.
    """

    train_set: Pictures
    test_set: Pictures

    def __init__(self, train_size: int = 1000, test_size: int = 800, shots: int | None = None) -> None:
        super().__init__()
        if train_size < 1 or test_size < 1:
            raise InputError(
                f"Task '{self.name}' needs training and test images: train_size is {train_size}, test_size {test_size}."
            )
        self.train_size, self.test_size, self.shots = train_size, test_size, shots

    def setup(self, stage: str | None = None) -> None:
        """Make both sets, once."""
        if not hasattr(self, "train_set"):
            self.train_set = self._pictures("train", self.train_size)
            self.test_set = self._pictures("test", self.test_size)

    @property
    def fingerprint(self) -> str:
        """Hash of the pictures' name, version, class names and labels, not of pixels: equal on every machine."""
        labels = [self._labels("train", self.train_size), self._labels("test", self.test_size)]
        facts = [self.name, TASKS_VERSION, self.class_names, *labels]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @abstractmethod
    def _labels(self, split: str, size: int) -> list[int]: ...

    @abstractmethod
    def _pictures(self, split: str, size: int) -> Pictures: ...


class DrawnTask(MiniTask):
    """A task whose pictures a renderer draws: balanced classes, each chunk from another seed."""

    @abstractmethod
    def draw(self, names: list[str], generator: Generator) -> Tensor:
        """Pictures of the named classes in the style of the task: uint8 ``[n, 3, 32, 32]``."""

    def _labels(self, split: str, size: int) -> list[int]:
        rng = Random(_seed(self.name, split, "labels"))
        labels: list[int] = []
        while len(labels) < size:  # every run of as many labels as classes holds each class once
            labels += rng.sample(range(len(self.class_names)), len(self.class_names))
        return labels[:size]

    def _pictures(self, split: str, size: int) -> Pictures:
        whole = self._labels(split, -(-size // _CHUNK) * _CHUNK)
        images = []
        for start in range(0, len(whole), _CHUNK):
            generator = torch.Generator().manual_seed(_seed(self.name, split, start))
            names = [self.class_names[label] for label in whole[start : start + _CHUNK]]
            images.append(self.draw(names, generator))
        return Pictures(torch.cat(images)[:size], whole[:size])


class Counting(DrawnTask):
    """The number of things: mixed things on a cluttered ground, each with a shadow."""

    name = "Counting"
    class_names = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    templates = ["a photo of {} objects", "a picture of {} objects", "an image of {} objects"]

    def draw(self, names: list[str], generator: Generator) -> Tensor:
        from datamodules.mini.world import Style, photograph
        from datamodules.mini.world.scenes import draw_counts

        style = Style(scale=(0.45, 0.8), speck=0.3, shadow=0.85, noise=0.1)
        return photograph(draw_counts(names, style, generator, mixed=True).images, style, generator)


class Digits(MiniTask):
    """Real handwritten digits: the 1797 of scikit-learn (8 x 8, UCI), in a fixed order.

    Args:
        train_size: at most 1000.
        test_size: at most 797.
        shots: training images of each class; ``data.shots`` if not given.

    Raises:
        InputError: a set would be empty or larger.
    """

    name = "Digits"
    class_names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    templates = ["a photo of the digit {}", "a picture of the digit {}", "a handwritten digit {}"]
    _TRAIN, _TEST = 1000, 797

    def __init__(self, train_size: int = _TRAIN, test_size: int = _TEST, shots: int | None = None) -> None:
        super().__init__(train_size, test_size, shots)
        if train_size > self._TRAIN or test_size > self._TEST:
            raise InputError(
                f"Task 'Digits' has {self._TRAIN} training and {self._TEST} test images, not {train_size} and"
                f" {test_size}: lower train_size or test_size."
            )

    def _rows(self, split: str, size: int) -> list[int]:
        order = Random(_seed(self.name, "split")).sample(range(self._TRAIN + self._TEST), self._TRAIN + self._TEST)
        return order[: self._TRAIN][:size] if split == "train" else order[self._TRAIN :][:size]

    def _labels(self, split: str, size: int) -> list[int]:
        from sklearn.datasets import load_digits

        target = load_digits().target.tolist()
        return [target[row] for row in self._rows(split, size)]

    def _pictures(self, split: str, size: int) -> Pictures:
        from sklearn.datasets import load_digits

        ink = torch.from_numpy(load_digits().images[self._rows(split, size)]).float()[:, None] / 16
        large = F.interpolate(ink, size=(26, 26), mode="bicubic", align_corners=False).clamp(0, 1)
        framed = F.pad(large, (3, 3, 3, 3)).expand(-1, 3, -1, -1)
        return Pictures((framed * 255).to(torch.uint8), self._labels(split, size))


class Flags(DrawnTask):
    """The country of a flag: strongly waving, in faded old prints."""

    name = "Flags"
    class_names = [
        "armenia", "austria", "belgium", "bulgaria", "colombia", "denmark", "estonia", "finland", "france", "germany",
        "guinea", "hungary", "indonesia", "ireland", "italy", "japan", "lithuania", "mali", "netherlands", "nigeria",
        "peru", "poland", "romania", "russia", "sweden", "ukraine", "vietnam", "yemen",
    ]  # fmt: skip
    templates = [
        "a photo of the flag of {}",
        "a picture of the flag of {}",
        "the flag of {}",
        "a photo of a waving flag of {}",
    ]

    def draw(self, names: list[str], generator: Generator) -> Tensor:
        from datamodules.mini.world import Style, photograph
        from datamodules.mini.world.flags import draw

        style = Style(
            scale=(0.3, 0.8),
            rotation=0.7,
            wave=(0.06, 0.2),
            speck=0.2,
            cast=0.15,
            haze=0.4,
            blur=0.4,
            fade=0.4,
            noise=0.12,
        )
        return photograph(_old_print(draw(names, style, generator).images, 0.62), style, generator)


class LandUse(DrawnTask):
    """The land use, seen from above in the near infrared."""

    name = "LandUse"
    class_names = [
        "beach", "desert", "downtown", "farmland", "forest", "golf", "harbor", "highway", "industrial", "lake",
        "meadow", "orchard", "parking", "railway", "residential", "river", "runway", "sea", "swamp", "vineyard",
    ]  # fmt: skip
    templates = ["an aerial view of {}", "a satellite image of {}", "{} seen from above", "a photo of {} from the air"]

    def draw(self, names: list[str], generator: Generator) -> Tensor:
        from datamodules.mini.world import Style, photograph
        from datamodules.mini.world.land import draw

        style = Style(zoom=(0.8, 1.5), infrared=0.7, haze=0.3, blur=0.3, fade=0.3, noise=0.10)
        return photograph(draw(names, style, generator).images, style, generator)


class Shapes(DrawnTask):
    """The shape of a thing: filled or contoured, in any colour, in the light and shade of blinds."""

    name = "Shapes"
    class_names = [
        "arrow", "chevron", "circle", "crescent", "cross", "diamond", "drop", "frame", "heart", "hexagon", "octagon",
        "oval", "pentagon", "rectangle", "ring", "semicircle", "square", "star", "trapezoid", "triangle",
    ]  # fmt: skip
    templates = ["a drawing of a {}", "a sketch of a {}", "a photo of a {}"]

    def draw(self, names: list[str], generator: Generator) -> Tensor:
        from datamodules.mini.world import Style, photograph
        from datamodules.mini.world.scenes import draw_sprites

        style = Style(scale=(0.5, 0.85), rotation=0.5, wobble=0.05, outline=0.5, speck=0.2, noise=0.08)
        drawn = draw_sprites(names, style, generator, pattern_share=0.0, every_colour=True).images
        return photograph(_behind_blinds(drawn, 0.5, generator), style, generator)


class Textures(DrawnTask):
    """The texture of a surface: colourless, as a relief in low light."""

    name = "Textures"
    class_names = [
        "banded", "blotchy", "bubbly", "checkered", "cracked", "crosshatched", "dotted", "grid", "honeycombed",
        "marbled", "plaid", "ringed", "scaly", "speckled", "spiral", "striped", "wavy", "woven", "zigzag", "pebbled",
    ]  # fmt: skip
    templates = ["a photo of a {} texture", "a picture of a {} pattern", "a {} texture", "a photo of a {} surface"]

    def draw(self, names: list[str], generator: Generator) -> Tensor:
        from datamodules.mini.world import Style, photograph
        from datamodules.mini.world.textures import draw

        style = Style(zoom=(0.75, 1.3), speck=0.1, fade=0.3, blur=0.2, noise=0.08)
        relief = _relief(_photocopy(draw(names, style, generator).images), 0.7)
        return photograph(relief, style, generator)
