"""Where the weights of a run are: on this machine, or where ``doctor --download`` fetches them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import open_clip

from datamodules.inspection import Inspection
from datamodules.mtil.download import fetch
from gift_lightning.clip import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.files import file_hash, read_json
from gift_lightning.generation import DiffusionGenerator
from gift_lightning.hub import HUB_CONFIG, cached_file
from gift_lightning.pretrained import HUB_WEIGHTS, tag_files

_SUFFIXES = (".safetensors", ".bin", ".pth")

_ALEXNET = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
"""Its name ends in the first digits of its SHA-256."""

_KNOWN: dict[str, dict[str, Any]] = {
    # the weights of its text tower, denoiser and decoder in float32
    "stable-diffusion-v1-5/stable-diffusion-v1-5": {"bytes": 4_270_000_000, "licence": "CreativeML Open RAIL-M"},
}
"""Size and licence of what is fetched of a pipeline."""


class Source(Protocol):
    """What a run needs, and where it comes from."""

    name: str

    def inspect(self) -> Inspection:
        """What is found of it on this machine."""

    def download(self, report: Callable[[str], None]) -> None:
        """Fetch it, whole or not at all; what is there already is left as it is. A broken download goes on.

        Args:
            report: shows one line of text on how far it is.

        Raises:
            InputError: it cannot be fetched, or is not what it should be.
        """


class CLIPWeights:
    """The weights of a CLIP, and the files of its tokenizer if they are on the hub."""

    name = "CLIP"

    def __init__(self, source: CLIPSource) -> None:
        self.source = source

    def inspect(self) -> Inspection:
        try:
            name = self.source.check()
        except InputError as error:
            return Inspection(self.name, "missing", str(error))
        given = self.source.weights or self.source.pretrained
        own = Path(given) if given and Path(given).is_file() else None
        scheme, _, place = name.partition(":")
        if scheme == "local-dir":
            if own is None and not any(path.suffix in _SUFFIXES for path in Path(place).iterdir()):
                detail = f"model.clip.name: there are no weights in {place}."
                return Inspection(self.name, "missing", detail, where=Path(place))
            return Inspection(self.name, "present", where=own or Path(place))
        if scheme == "hf-hub":
            config = cached_file(place, HUB_CONFIG)
            if config is None:
                return _to_fetch(self.name, place)
            text = read_json(config)["model_cfg"]["text_cfg"]
        else:
            text = (open_clip.get_model_config(name) or {})["text_cfg"]
        if own is None:
            is_tag = scheme != "hf-hub"
            repository, files = tag_files(name, str(self.source.pretrained)) if is_tag else (place, HUB_WEIGHTS)
            own = next(filter(None, (cached_file(repository, each) for each in files)), None)
            if own is None:
                return _to_fetch(self.name, repository)
        for key, file in {"hf_model_name": "config.json", "hf_tokenizer_name": "tokenizer_config.json"}.items():
            if text.get(key) and not cached_file(text[key], file):
                return _to_fetch(self.name, text[key])
        return Inspection(self.name, "present", where=own)

    def download(self, report: Callable[[str], None]) -> None:
        self.source.load()
        _verify(self.inspect().where)


class Pipeline:
    """The pipeline of a generator."""

    name = "text to image"

    def __init__(self, generator: DiffusionGenerator) -> None:
        self.generator = generator

    def inspect(self) -> Inspection:
        try:
            folder = self.generator.find()
        except InputError as error:
            return Inspection(self.name, "missing", str(error))
        if folder is None:
            return _to_fetch(self.name, self.generator.name, **_KNOWN.get(self.generator.name, {}))
        return Inspection(self.name, "present", where=folder)

    def download(self, report: Callable[[str], None]) -> None:
        folder = self.generator.download()
        for file in folder.rglob("*.safetensors"):
            _verify(file)


class AlexNet:
    """torchvision's weights of AlexNet."""

    name = "AlexNet"

    def __init__(self, file: Path) -> None:
        self.file = file

    def inspect(self) -> Inspection:
        if self.file.is_file():
            return Inspection(self.name, "present", where=self.file)
        detail = f"{self.file} does not exist."
        return Inspection(self.name, "missing", detail, None, None, self.file, _ALEXNET, 244_000_000, "see there", True)

    def download(self, report: Callable[[str], None]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        fetch(_ALEXNET, self.file, _ALEXNET[-12:-4], report)


def _to_fetch(name: str, repository: str, **known: Any) -> Inspection:
    detail = f"{repository} is not in the cache of the Hugging Face hub."
    source = f"https://huggingface.co/{repository}"
    return Inspection(name, "missing", detail, source=source, automatic=True, **{"licence": "see there", **known})


def _verify(file: Path | None) -> None:
    """Compare a large file in the cache of the hub with its name there, which is its SHA-256.

    Raises:
        InputError: they differ; the file is removed.
    """
    stored = file.resolve() if file else None
    if stored is None or not re.fullmatch("[0-9a-f]{64}", stored.name):
        return
    found = file_hash(stored, "sha256")
    if found != stored.name:
        stored.unlink()
        raise InputError(f"{file} has SHA-256 {found}, not {stored.name}: what came was removed, try again.")
