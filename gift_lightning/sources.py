"""Where the weights of a run are: on this machine, on the hub, or nowhere."""

import os
from pathlib import Path

import open_clip

from datamodules.inspection import Inspection
from gift_lightning.clip import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.generation import DiffusionGenerator
from gift_lightning.hub import cached_file, is_offline
from gift_lightning.pretrained import HUB_WEIGHTS

_SUFFIXES = (".safetensors", ".bin", ".pth")

_FETCHED = "fit fetches what it needs, over the network; with --trainer.fast_dev_run true also ahead of time."

KNOWN_BYTES = {"stable-diffusion-v1-5/stable-diffusion-v1-5": 4_270_000_000}
"""Size of what is fetched of a pipeline: the weights of its text tower, denoiser and decoder in float32."""


def inspect_clip(source: CLIPSource) -> Inspection:
    """Where the weights of a CLIP are. ``automatic`` are those that loading it fetches."""
    try:
        name = source.check()
    except InputError as error:
        return Inspection("CLIP", "missing", str(error))
    file = source.weights or source.pretrained
    scheme, _, place = name.partition(":")
    if scheme != "hf-hub" and file and Path(file).is_file():  # what is on the hub, open_clip asks for in any case
        return Inspection("CLIP", "present", where=Path(file))
    if scheme == "local-dir":
        if any(path.suffix in _SUFFIXES for path in Path(place).iterdir()):
            return Inspection("CLIP", "present", where=Path(place))
        return Inspection("CLIP", "missing", f"model.clip.name: there are no weights in {place}.", where=Path(place))
    if scheme == "hf-hub":
        return _on_hub(place, ("open_clip_config.json",), HUB_WEIGHTS)
    tag = open_clip.get_pretrained_cfg(name, source.pretrained)
    repository, weights = os.path.split(tag.get("hf_hub", ""))
    if repository:
        return _on_hub(repository, (), (weights,) if weights else HUB_WEIGHTS)
    return _at(tag["url"])


def inspect_generator(generator: DiffusionGenerator) -> Inspection:
    """Where the pipeline of a generator is. ``automatic`` is one that the first image fetches."""
    name, known = generator.name, KNOWN_BYTES.get(generator.name)
    try:
        folder = generator.find()
    except InputError as error:
        return Inspection("text to image", "missing", str(error))
    return Inspection("text to image", "present", where=folder) if folder else _to_fetch("text to image", name, known)


def _on_hub(repository: str, needed: tuple[str, ...], weights: tuple[str, ...]) -> Inspection:
    found = next(filter(None, (cached_file(repository, name) for name in weights)), None)
    if found and all(cached_file(repository, name) for name in needed):
        return Inspection("CLIP", "present", where=found)
    return _to_fetch("CLIP", repository)


def _at(url: str) -> Inspection:
    file = Path("~/.cache/clip").expanduser() / os.path.basename(url)  # where open_clip keeps it
    if file.is_file():
        return Inspection("CLIP", "present", where=file)
    detail = f"The weights are not on this machine: {_FETCHED}"
    return Inspection("CLIP", "missing", detail, where=file, source=url, automatic=True)


def _to_fetch(name: str, repository: str, size: int | None = None) -> Inspection:
    source = f"https://huggingface.co/{repository}"
    if is_offline():
        detail = f"{repository} is not in the cache of the Hugging Face hub, and HF_HUB_OFFLINE forbids to fetch it."
        return Inspection(name, "missing", detail, source=source, bytes=size)
    detail = f"{repository} is not in the cache of the Hugging Face hub: {_FETCHED}"
    return Inspection(name, "missing", detail, source=source, bytes=size, automatic=True)
