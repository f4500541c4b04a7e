"""Where a CLIP comes from, as a config names it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gift_lightning.clip.model import CLIP
from gift_lightning.clip.origin import Origin, find_origin, settings
from gift_lightning.clip.outline import outline, outline_name
from gift_lightning.clip.pretrained import check, open_parts
from gift_lightning.errors import InputError
from gift_lightning.files import path_of


@dataclass
class CLIPSource:
    """Where a CLIP comes from.

    Attributes:
        name: an open_clip model name (``ViT-B-16``), ``hf-hub:<id>``, ``local-dir:<folder>`` with an
            ``open_clip_config.json``, or ``package:<module>`` for such a folder inside an installed Python package.
        pretrained: an open_clip tag (``openai``), a weights file, or ``null`` for the weights that come with the name.
            A file is safetensors, OpenAI's own (``ViT-B-16.pt``), or a state dict with names of open_clip or OpenAI,
            plain or under a usual key (``state_dict``, ``model``), not an average (EMA) beside it.
        weights: a file whose weights take the place of those, a checkpoint of a run for instance; activation and image
            preprocessing stay those of ``pretrained``.
        origin: the open_clip tag of the weights that a file began with: their activation and image preprocessing hold.
            By default it is what the file shows, else OpenAI, and a run says what it took.
    """

    name: str = "ViT-B-16"
    pretrained: str | None = None
    weights: str | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        # what the parser makes of `--model.clip.pretrained null`
        self.pretrained = None if self.pretrained == "None" else self.pretrained
        self.weights = None if self.weights == "None" else self.weights
        self.origin = None if self.origin == "None" else self.origin
        # a path alone: tags and names of models stay as they are
        if self.name.startswith("local-dir:~"):
            self.name = f"local-dir:{path_of(self.name.removeprefix('local-dir:'))}"
        for field in ("pretrained", "weights"):
            if str(getattr(self, field)).startswith("~"):
                setattr(self, field, str(path_of(getattr(self, field))))

    def load(self) -> CLIP:
        """The model in float32 on the CPU; under ``torch.device("meta")`` its outline, without weights or tokenizer.

        Raises:
            InputError: no such model, or weights that are missing, cannot be downloaded, or do not fit the model.
        """
        if torch.get_default_device().type == "meta":
            return self._outline()
        self.check()
        return CLIP(*open_parts(self.name, self.pretrained, self.weights, self.origin))

    def check(self) -> str:
        """The name as open_clip takes it.

        Raises:
            InputError: no such model, no such tag of it, a file that is missing, or one whose origin is not clear; or
                a model of open_clip that the methods do not take.
        """
        name = check(self.name, self.pretrained, self.weights)
        self.find_origin()
        if ":" not in name and outline_name(name):  # others show it when they are loaded
            self._outline()
        return name

    def _outline(self) -> CLIP:
        return CLIP(outline(outline_name(self.name) or self.name), _nothing, _nothing, _nothing)

    def find_origin(self) -> Origin:
        """Who trained the weights.

        Raises:
            InputError: see ``gift_lightning.clip.origin.find_origin``.
        """
        return find_origin(self.name, self.pretrained, self.weights, self.origin)

    def notes(self) -> list[str]:
        """What a user should know of weights in a file before they are read; nothing if ``check`` refuses them."""
        try:
            is_there = any(file and Path(file).is_file() for file in (self.pretrained, self.weights))
            return self.find_origin().notes if is_there else []
        except InputError:
            return []

    def settings(self) -> dict[str, Any]:
        """Activation and preprocessing, as arguments of open_clip for weights that come without their tag."""
        return settings(self.name, self.find_origin().tag)


def _nothing(_: Any) -> Tensor:
    raise NotImplementedError("The outline of a CLIP reads nothing.")
