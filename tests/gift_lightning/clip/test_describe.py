"""Transforms in words: the same in every process, others for other transforms."""

import collections
import enum
import functools
import logging
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from open_clip.transform import CenterCropOrPad, MaybeConvertMode, ResizeKeepRatio
from PIL import Image, ImageFilter
from torchvision.transforms import (
    Compose,
    ConvertImageDtype,
    Lambda,
    Normalize,
    PILToTensor,
    RandomPerspective,
    RandomResizedCrop,
    Resize,
    ToTensor,
    v2,
)
from torchvision.transforms import functional as tv

from datamodules import TaskSequence
from datamodules.image_cache import CacheFile, cache_bytes
from datamodules.mini import Flags
from gift_lightning.clip.describe import can_be_described, describe
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.records.protocol import protocol

LOG = logging.getLogger(__name__)
FACTOR = 2


class Gamma:
    def __init__(self, gamma: float) -> None:
        self.gamma = gamma

    def __call__(self, image: Any) -> Any:
        return tv.adjust_gamma(image, self.gamma)


class Sharpen(torch.nn.Module):
    def __init__(self, kernel: float) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.full((3,), kernel))

    def forward(self, image: Any) -> Any:
        return image


class Slotted:
    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


class SlotOfText:
    __slots__ = "scale"

    def __init__(self, scale: int) -> None:
        self.scale = scale


class SlotOfItsOwn:
    __slots__ = ("__scale",)

    def __init__(self, scale: int) -> None:
        self.__scale = scale


class Pair(NamedTuple):
    size: int

    def __call__(self, image: Any) -> Any:
        return image.resize((self.size, self.size))


class OtherPair(Pair):
    def __call__(self, image: Any) -> Any:
        return image.rotate(self.size)


class Steps(list[Any]):
    angle = 0

    def at(self, angle: int) -> "Steps":
        self.angle = angle
        return self


class Table(dict[str, Any]):
    def at(self, angle: int) -> "Table":
        self.angle = angle
        return self


class Factor(float):
    def at(self, angle: int) -> "Factor":
        self.angle = angle
        return self


class Word(str):
    def __call__(self, image: Any) -> Any:
        return image


class Side(enum.Enum):
    LEFT = 1
    RIGHT = 2

    def __call__(self, image: Any) -> Any:
        return image.rotate(90 * self.value)


class ResizeOfOnesOwn(Resize):
    def forward(self, image: Any) -> Any:
        return image


def hooked(angle: int) -> Resize:
    resize = Resize(32)
    resize.register_forward_hook(by(angle))
    return resize


class Child(Gamma):
    def __call__(self, image: Any) -> Any:
        return image


def grey(image: Image.Image) -> Image.Image:
    LOG.debug("grey")
    return image.convert("L")


def turn(image: Image.Image, angle: int = 90) -> Image.Image:
    return image.rotate(angle * FACTOR)


def by(angle: int) -> Callable[[Any], Any]:
    return lambda image: image.rotate(angle)


def transforms() -> list[Any]:
    """Made anew at each call; no two of them do the same."""
    return [
        grey,
        turn,
        by(10),
        by(20),
        lambda image: image.resize((3, 3)),
        lambda image: image.resize((4, 4)),
        functools.partial(turn, angle=1),
        functools.partial(turn, angle=2),
        Gamma(1.0),
        Gamma(2.0),
        Gamma(2.0).__call__,
        Child(2.0),
        Sharpen(1.0),
        Sharpen(2.0),
        Slotted(1),
        Slotted(2),
        Lambda(by(1)),
        Lambda(by(2)),
        Compose([Resize(32), Gamma(1.0), ToTensor()]),
        Compose([Resize(32), Gamma(3.0), ToTensor()]),
        Compose([Resize(32), ToTensor()]),
        Compose([Resize(33), ToTensor()]),
        torch.nn.Sequential(Sharpen(1.0), v2.Resize(3)),
        v2.Compose([v2.Resize(32), v2.Lambda(by(1))]),
        v2.Compose([v2.Resize(32), v2.Lambda(by(2))]),
        functools.partial(tv.resize, size=[3, 4]),
        functools.partial(tv.rotate, angle=3),
        functools.partial(torch.add, 3),
        torch.sigmoid,
        str.lower,
        np.sqrt,
        functools.lru_cache(turn),
        {"matrix": np.eye(2), "names": {"b", "a"}, "filter": ImageFilter.GaussianBlur(2), "path": Path("a")},
        {"matrix": np.eye(3), "names": {"b", "a"}, "filter": ImageFilter.GaussianBlur(2), "path": Path("a")},
        {"matrix": np.eye(2), "names": {"b", "a"}, "filter": ImageFilter.GaussianBlur(3), "path": Path("a")},
        SlotOfText(1),
        SlotOfText(2),
        SlotOfItsOwn(1),
        SlotOfItsOwn(2),
        Pair(3),
        Pair(4),
        OtherPair(3),
        (3,),
        *(Steps([1]).at(angle) for angle in (1, 2)),
        *(Table(a=1).at(angle) for angle in (1, 2)),
        *(Factor(1).at(angle) for angle in (1, 2)),
        [1],
        {"a": 1},
        1.0,
        Word("a"),
        "a",
        Side.LEFT,
        Side.RIGHT,
        ResizeOfOnesOwn(32),
        Resize(32),
        *(ConvertImageDtype(kind) for kind in (torch.float32, torch.float64)),
        *(RandomPerspective(share) for share in (0.1, 0.9)),
        *(RandomResizedCrop(8, (share, 1.0)) for share in (0.10001, 0.10002)),
        *(torch.nn.Upsample(3, mode="bilinear", align_corners=corners) for corners in (False, True)),
        *(torch.nn.AvgPool2d(3, padding=1, count_include_pad=counted) for counted in (False, True)),
        *(MaybeConvertMode(mode) for mode in ("RGB", "L")),
        *(CenterCropOrPad(3, fill) for fill in (0, 9)),
        *(ResizeKeepRatio(3, longest=longest) for longest in (1.0, 0.99999)),
        *(Normalize([mean], [1.0]) for mean in (0.5, torch.tensor(0.500001), torch.tensor(0.500002))),
        (Image.new("L", (2, 2), 1), re.compile("a")),
        (Image.new("L", (2, 2), 2), re.compile("a")),
    ]


def held_in_c() -> list[Any]:
    """What their classes of C keep beside the attributes."""

    class Queue(collections.deque[int]):
        pass

    class Default(collections.defaultdict[str, int]):
        pass

    class Part(functools.partial[Any]):
        pass

    return [Queue([1]), Default(int), Part(turn), collections.deque([1]), collections.defaultdict(int)]


def described() -> list[str]:
    return [describe(transform) for transform in transforms()]


def test_the_same_transform_is_described_alike_and_others_are_not() -> None:
    first = described()
    assert described() == first
    assert not any(" at 0x" in text for text in first)
    twice = [index for index, text in enumerate(first) if first.index(text) != index]
    assert not twice, [transforms()[index] for index in twice]
    assert len({describe(each) for each in (Resize(32), hooked(1), hooked(2))}) == 3


def test_a_value_that_a_function_uses_belongs_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [describe(turn), describe(functools.partial(turn, angle=1)), describe(Gamma(1.0))]
    monkeypatch.setitem(globals(), "FACTOR", 3)
    assert [describe(turn) != before[0], describe(functools.partial(turn, angle=1)) != before[1]] == [True, True]
    assert describe(Gamma(1.0)) == before[2]
    monkeypatch.setattr(Gamma, "__call__", lambda self, image: image)
    assert describe(Gamma(1.0)) != before[2]


def test_what_else_is_in_the_process_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that logs, or that mentions what cannot be described, is still the same function elsewhere."""
    monkeypatch.setitem(globals(), "FACTOR", [random.Random(1), Gamma(1.0)])
    logs = Gamma(logging.getLogger("a"))  # type: ignore[arg-type]
    both = (grey, turn, logs, Gamma(2.0), Gamma)
    before = [describe(transform) for transform in (*both, both)]
    logging.getLogger("another").addHandler(logging.StreamHandler())
    logging.getLogger("a").setLevel(3)
    monkeypatch.setitem(globals(), "FACTOR", [random.Random(2), Gamma(1.0)])
    assert [describe(transform) for transform in (*both, both)] == before
    assert describe(Gamma(logging.getLogger("b"))) != before[2]  # type: ignore[arg-type]


def test_an_object_may_hold_itself() -> None:
    one = Gamma(1.0)
    one.parent = {"child": one}  # type: ignore[attr-defined]
    assert "#0" in describe(one)


def test_what_cannot_be_told_apart_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with open(tmp_path / "file") as file:
        for held in (
            random.Random(1),
            np.random.default_rng(1),
            torch.Generator(),
            file,
            iter([1]),
            [1].append,
            *held_in_c(),
        ):
            for transform in (Gamma(held), Compose([Resize(3), Gamma(held)]), functools.partial(turn, angle=held)):  # type: ignore[arg-type]
                assert not can_be_described(transform), held


def test_the_protocol_and_the_cache_tell_transforms_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.image_cache.LEAST_CACHED_BYTES", 0)
    clip, task = CLIPSource("package:datamodules.mini.clip").load(), Flags(1, 3)
    task.setup()
    sequence = TaskSequence([task])
    usual = clip.test_transform

    def facts(part: Any) -> tuple[str, str]:
        clip.test_transform = Compose([part, *usual.transforms])  # type: ignore[attr-defined]
        geometry = Compose([part, Resize(8), PILToTensor()])
        assert cache_bytes(task, geometry) > 0
        return protocol(sequence, clip)["id"], CacheFile.of(tmp_path, task, geometry).path.name

    assert facts(Gamma(1.0)) == facts(Gamma(1.0))
    kinds = [facts(part) for part in (Gamma(1.0), Gamma(2.0), Lambda(by(1)), Lambda(by(2)), Resize(32))]
    assert len({identity for identity, _ in kinds}) == len({name for _, name in kinds}) == 5
    clip.test_transform = Gamma(random.Random(1))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"test transform cannot be described.*holds a random\.Random"):
        protocol(sequence, clip)
    assert cache_bytes(task, Compose([Child(random.Random(1)), Resize(8), PILToTensor()])) == 0  # type: ignore[arg-type]


def test_transforms_of_open_clip_are_named_as_ever() -> None:
    clip = CLIPSource("package:datamodules.mini.clip").load()
    assert describe(clip.test_transform) == repr(clip.test_transform)
    assert describe(clip.test_geometry) == repr(clip.test_geometry)
