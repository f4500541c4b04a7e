"""CLIPs without weights, on the meta device: what has no numbers can still be counted."""

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
        ``None`` if there is no such model, or what describes it is on the hub alone and not in its cache here.
    """
    scheme, _, place = name.partition(":")
    if not place:
        known = open_clip.get_model_config(name.replace("/", "-"))
        return name if known and _is_described(known) else None
    folder = package_file(name, "`model.clip.name`") if scheme == "package" else Path(place)
    config = cached_file(place, HUB_CONFIG) if scheme == "hf-hub" else folder / HUB_CONFIG
    if config is None or not config.is_file():
        return None
    return f"local-dir:{config.parent}" if _is_described(json.loads(config.read_text())["model_cfg"]) else None


def _is_described(config: dict[str, Any]) -> bool:
    """Whether a text tower of transformers, which has a config of its own, can be made too."""
    text = config["text_cfg"].get("hf_model_name")
    return text is None or cached_file(text, "config.json") is not None


def outline(name: str) -> nn.Module:
    """The model of that name on the meta device, in a moment and without memory."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # that there are no weights
    try:
        with torch.device("meta"):  # else it would first be made in memory
            model: nn.Module = open_clip.create_model(name, load_weights=False, pretrained_text=False, device="meta")
        return model
    finally:
        logging.disable(disabled)
