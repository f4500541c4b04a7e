"""Where the weights of a run are: on this machine, on the hub, or nowhere."""

from pathlib import Path

from datamodules.inspection import Inspection
from gift_lightning.clip import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.generation import DiffusionGenerator
from gift_lightning.hub import cached_file, is_offline
from gift_lightning.pretrained import HUB_WEIGHTS, tag_files

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
    repository, files = tag_files(name, str(source.pretrained))
    return _on_hub(repository, (), files)


def inspect_alexnet(file: Path) -> Inspection:
    """Where torchvision's weights of AlexNet are."""
    if file.is_file():
        return Inspection("AlexNet", "present", where=file)
    source = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
    return Inspection("AlexNet", "missing", f"{file} does not exist: fetch {source}.", where=file)


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


def _to_fetch(name: str, repository: str, size: int | None = None) -> Inspection:
    source = f"https://huggingface.co/{repository}"
    if is_offline():
        detail = f"{repository} is not in the cache of the Hugging Face hub, and HF_HUB_OFFLINE forbids to fetch it."
        return Inspection(name, "missing", detail, source=source, bytes=size)
    detail = f"{repository} is not in the cache of the Hugging Face hub: {_FETCHED}"
    return Inspection(name, "missing", detail, source=source, bytes=size, automatic=True)
