"""The choice of a CLIP and its weights in a config."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gift_lightning.clip.model import CLIP
from gift_lightning.clip.origin import Origin, find_origin, settings, tags_of
from gift_lightning.clip.outline import outline, outline_name
from gift_lightning.clip.pretrained import check, load_pretrained
from gift_lightning.errors import InputError
from gift_lightning.files import path_of


@dataclass
class CLIPSource:
    """The choice of a CLIP and its weights.

    Attributes:
        name: an open_clip model name (``ViT-B-16``), ``hf-hub:<id>``, ``local-dir:<folder>`` with an
            ``open_clip_config.json``, or ``package:<module>`` for such a folder inside an installed Python package.
        pretrained: an open_clip tag (``openai``), a weights file, or ``null`` for the weights of the folder, package or
            hub id. A file is safetensors, OpenAI's (``ViT-B-16.pt``), or a state dict with names of open_clip or
            OpenAI, plain or under a usual key (``state_dict``, ``model``), not an average (EMA) beside it.
        weights: a file that replaces these weights, a checkpoint of a run for instance; activation and image
            preprocessing stay those of ``pretrained``.
        origin: the open_clip tag of the weights from which a file was trained, for activation and image preprocessing.
            By default the evidence in the file decides, else it is OpenAI; a run prints the choice.
    """

    name: str = "ViT-B-16"
    pretrained: str | None = None
    weights: str | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        # the parser reads `--model.clip.pretrained null` as the text "None"
        self.pretrained = None if self.pretrained == "None" else self.pretrained
        self.weights = None if self.weights == "None" else self.weights
        self.origin = None if self.origin == "None" else self.origin
        # paths alone: tags and names of models do not begin with ~
        if self.name.startswith("local-dir:~"):
            self.name = f"local-dir:{path_of(self.name.removeprefix('local-dir:'))}"
        for field in ("pretrained", "weights"):
            if str(getattr(self, field)).startswith("~"):
                setattr(self, field, str(path_of(getattr(self, field))))

    def load(self) -> CLIP:
        """The model in float32 on the CPU; under ``torch.device("meta")`` its outline, without weights or tokenizer.

        Raises:
            InputError: the model does not exist, or its weights are missing, cannot be downloaded, or do not fit it.
        """
        if torch.get_default_device().type == "meta":
            return self._outline()
        self.check()
        return CLIP(*load_pretrained(self.name, self.pretrained, self.weights, self.origin))

    def check(self) -> str:
        """The name as an argument of open_clip.

        Raises:
            InputError: the model, its tag, or a file does not exist; the origin of a file is ambiguous; or the methods
                do not support the model.
        """
        name = check(self.name, self.pretrained, self.weights)
        self.find_origin()
        if ":" not in name and outline_name(name):  # other models are checked by ``load``
            self._outline()
        return name

    def _outline(self) -> CLIP:
        tags = tags_of(self.name)
        tag = next((tag for tag in (self.pretrained, self.origin, "openai") if tag in tags), None)  # of a file, usually
        activation = {key: value for key, value in settings(self.name, tag).items() if key == "force_quick_gelu"}
        model = outline(outline_name(self.name) or self.name, **activation)
        return CLIP(model, _nothing, _nothing, _nothing)

    def find_origin(self) -> Origin:
        """The origin of the weights.

        Raises:
            InputError: see ``gift_lightning.clip.origin.find_origin``.
        """
        return find_origin(self.name, self.pretrained, self.weights, self.origin)

    def notes(self) -> list[str]:
        """Sentences on the origin of weights in a file, before they are read; empty if ``check`` refuses them."""
        try:
            has_file = any(file and Path(file).is_file() for file in (self.pretrained, self.weights))
            return self.find_origin().notes if has_file else []
        except InputError:
            return []

    def settings(self) -> dict[str, Any]:
        """Activation and preprocessing, as arguments of open_clip for weights without a tag."""
        return settings(self.name, self.find_origin().tag)


def _nothing(_: Any) -> Tensor:
    raise NotImplementedError("The outline of a CLIP has no transforms and no tokenizer.")
