"""Two judges of the class in a picture: the small CLIP, and a classifier that learns from the renderer's pictures."""

import logging
from itertools import accumulate
from random import Random
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.mini.prompts import prompts_by_kind
from datamodules.mini.world import KINDS, PHOTO, ROUGH, SKETCH, draw
from gift_lightning.clip.model import cosine
from gift_lightning.clip.source import CLIPSource
from gift_lightning.seeding import stream_seed

log = logging.getLogger(__name__)

STEPS = 2000
_BATCH = 128
_BLOCK = 16  # batches drawn at a time
_PEAK_RATE = 3e-3
_STYLES = (PHOTO, PHOTO, SKETCH, ROUGH)
_SHARES = {"sprite": 0.29, "digit": 0.06, "letter": 0.10, "texture": 0.26, "count": 0.20, "land": 0.05, "flag": 0.04}
"""How often each kind is shown: more often the harder it is to recognise."""
_FIRST = dict(zip(KINDS, accumulate([0, *(len(family.names) for family in KINDS.values())]), strict=False))
"""The classes of a kind are neighbours among all classes; this is the index of the first."""


class Judge(Protocol):
    """Recognises the class of a kind in a picture."""

    name: str

    def recognise(self, kind: str, pictures: Tensor) -> Tensor:
        """The class ``[n]``, as an index into ``KINDS[kind].names``, of uint8 pictures ``[n, 3, 32, 32]``."""


class ClipJudge:
    """The small CLIP as it is shipped, with one prompt for each class."""

    name = "CLIP"

    def __init__(self) -> None:
        self._clip = CLIPSource("package:datamodules.mini.clip").load().eval()
        self._classes = {
            kind: self._clip.classifier([[prompt] for prompt in prompts.values()])
            for kind, prompts in prompts_by_kind().items()
        }

    @torch.no_grad()
    def recognise(self, kind: str, pictures: Tensor) -> Tensor:
        return cosine(self._clip.encode_image(self._clip.normalize(pictures)), self._classes[kind]).argmax(1)


class Classifier:
    """A small convolutional network trained on labelled pictures of the general world alone.

    Args:
        steps: optimiser steps; the default takes about two minutes on one core.
        seed: of the first weights and the pictures.
    """

    name = "classifier"

    def __init__(self, steps: int = STEPS, seed: int = 0) -> None:
        self._network = _train(steps, seed).eval()

    @torch.no_grad()
    def recognise(self, kind: str, pictures: Tensor) -> Tensor:
        return self._network(_scaled(pictures))[:, _within(kind)].argmax(1)


def _within(kind: str) -> slice:
    return slice(_FIRST[kind], _FIRST[kind] + len(KINDS[kind].names))


def _scaled(pictures: Tensor) -> Tensor:
    return (pictures.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def _new_network() -> nn.Sequential:
    """32 x 32 pictures to one logit for each class of each kind."""

    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    classes = sum(len(family.names) for family in KINDS.values())
    layers = [nn.Conv2d(3, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    for inputs, outputs, stride in ((32, 48, 1), (48, 96, 2), (96, 96, 1), (96, 128, 2)):
        layers += block(inputs, outputs, stride)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(128 * 4 * 4, classes))


def _labelled(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures of the world in all its styles: uint8 ``[n, 3, 32, 32]``, class ``[n]``, and the first class and the one
    after the last of its kind ``[n, 2]``."""
    rng, generator = Random(seed), torch.Generator().manual_seed(seed)
    kinds = rng.choices(list(_SHARES), list(_SHARES.values()), k=n)
    pictures, classes, bounds = [], list[int](), list[tuple[int, int]]()
    for kind, family in KINDS.items():
        for style in _STYLES:
            names = rng.choices(family.names, k=-(-kinds.count(kind) // len(_STYLES)))
            if names:
                pictures.append(draw(kind, names, generator, style))
                classes += [_FIRST[kind] + family.names.index(name) for name in names]
                bounds += [(_within(kind).start, _within(kind).stop)] * len(names)
    order = torch.randperm(len(classes), generator=generator)[:n]
    return torch.cat(pictures)[order], torch.tensor(classes)[order], torch.tensor(bounds)[order]


def _train(steps: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = _new_network().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), _PEAK_RATE, weight_decay=0.02, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, steps)
    every = torch.arange(sum(len(family.names) for family in KINDS.values()))
    for step in range(steps):
        if step % _BLOCK == 0:
            pictures, classes, bounds = _labelled(_BLOCK * _BATCH, stream_seed(seed, "classifier", step))
        rows = slice(step % _BLOCK * _BATCH, (step % _BLOCK + 1) * _BATCH)
        first, last = bounds[rows].unsqueeze(-1).unbind(1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(_scaled(pictures[rows])).float()
        # a picture is compared with the classes of its kind alone
        logits = logits.masked_fill((every < first) | (every >= last), -torch.inf)
        loss = F.cross_entropy(logits, classes[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 250 == 0:
            log.info("classifier: step %d/%d, loss %.3f", step + 1, steps, loss.item())
    return network
