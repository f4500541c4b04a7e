"""Outlines of CLIPs: models on the meta device, without weights, for counting parameters."""

import json
import logging
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from gift_lightning.files import package_file
from gift_lightning.hub import HUB_CONFIG, cached_file


def outline_name(name: str) -> str | None:
    """The name by which open_clip builds a model without the network.

    Args:
        name: ``model.clip.name``.

    Returns:
        ``None`` if the model does not exist, or if its config is not on this machine.

    Raises:
        InputError: ``name`` is a package that cannot be imported.
    """
    scheme, _, place = name.partition(":")
    if not place:
        model_config = open_clip.get_model_config(name.replace("/", "-"))
        return name if model_config and _is_described(model_config) else None
    folder = package_file(name, "`model.clip.name`") if scheme == "package" else Path(place)
    config = cached_file(place, HUB_CONFIG) if scheme == "hf-hub" else folder / HUB_CONFIG
    if config is None or not config.is_file():
        return None
    return f"local-dir:{config.parent}" if _is_described(json.loads(config.read_text())["model_cfg"]) else None


def _is_described(config: dict[str, Any]) -> bool:
    """Whether the config of the text tower, if it is one of transformers, is on this machine too."""
    text = config["text_cfg"].get("hf_model_name")
    return text is None or cached_file(text, "config.json") is not None


def outline(name: str, **settings: Any) -> nn.Module:
    """The model of a name (see ``outline_name``) on the meta device, in a moment and without memory.

    Args:
        name: of the model.
        settings: further arguments of open_clip, its activation for instance.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # open_clip warns of a model without weights
    try:
        with torch.device("meta"):  # without it, the model is first built in memory
            model: nn.Module = open_clip.create_model(
                name, load_weights=False, pretrained_text=False, device="meta", **settings
            )
        return model
    finally:
        logging.disable(disabled)
