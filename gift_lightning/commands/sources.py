"""Where the weights of a run are: on this machine, or where ``doctor --download`` fetches them."""

import re
from pathlib import Path
from typing import Any, Protocol

import open_clip
from huggingface_hub import constants

from datamodules.replay.diffusion import STABLE_DIFFUSION, DiffusionGenerator
from gift_lightning.clip.origin import tag_files
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.fetch import Report, fetch
from gift_lightning.files import file_hash, read_json
from gift_lightning.hub import HUB_CONFIG, HUB_WEIGHTS, TOKENIZER_FILES, cached_file
from gift_lightning.sources import Inspection

_SUFFIXES = (".safetensors", ".bin", ".pth")
_ON_ITS_PAGE = "on its page"
_SMALL = 5_000_000  # bytes of a tokenizer, a config and the like, at most

_ALEXNET = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
"""Its name ends in the first digits of its SHA-256."""

_KNOWN: dict[str, dict[str, Any]] = {
    # the weights of its text tower, denoiser and decoder in float32
    STABLE_DIFFUSION: {"bytes": 4_270_000_000, "licence": "CreativeML Open RAIL-M"},
}
"""Size and licence of what is fetched of a pipeline."""


class Source(Protocol):
    """What a run needs, and where it comes from."""

    name: str

    def inspect(self) -> Inspection:
        """What is found of it on this machine."""

    def download(self, report: Report) -> None:
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
            folder = Path(place)
            own = own or next((path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES), None)
            if own is None:
                detail = f"model.clip.name: there are no weights in {folder}."
                return Inspection(self.name, "missing", detail, where=folder)
            return self._with_text_tower(own, _text_config(folder / HUB_CONFIG), has_tokenizer=True)
        is_on_hub = scheme == "hf-hub"
        if own is None:
            repository, files = (place, HUB_WEIGHTS) if is_on_hub else tag_files(name, str(self.source.pretrained))
            own = next(filter(None, (cached_file(repository, file) for file in files)), None)
            if own is None:
                return _to_fetch(self.name, repository)
        if not is_on_hub:
            return self._with_text_tower(own, open_clip.get_model_config(name)["text_cfg"])  # type: ignore[index]
        config = cached_file(place, HUB_CONFIG)
        return self._with_text_tower(own, _text_config(config)) if config else _to_fetch(self.name, place)

    def _with_text_tower(self, weights: Path, text: dict[str, Any], has_tokenizer: bool = False) -> Inspection:
        """The verdict on a CLIP whose weights are there: its text tower and its tokenizer may be other repositories."""
        parts = {"hf_model_name": ("config.json",)} | ({} if has_tokenizer else {"hf_tokenizer_name": TOKENIZER_FILES})
        for key, files in parts.items():
            if text.get(key) and not any(cached_file(text[key], file) for file in files):
                return _to_fetch(self.name, text[key], bytes=_SMALL)
        return Inspection(self.name, "present", where=weights)

    def download(self, report: Report) -> None:
        try:
            self.source.load()
        finally:  # what is damaged may not be loaded
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

    def download(self, report: Report) -> None:
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
        return Inspection(
            self.name,
            "missing",
            f"{self.file} does not exist.",
            where=self.file,
            source=_ALEXNET,
            bytes=244_000_000,
            licence=_ON_ITS_PAGE,
            automatic=True,
        )

    def download(self, report: Report) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.file} cannot be written: {error.strerror}.") from error
        fetch(_ALEXNET, self.file, report, sha256=_ALEXNET[-12:-4])


def _text_config(file: Path) -> dict[str, Any]:
    config: dict[str, Any] = read_json(file)["model_cfg"]["text_cfg"]
    return config


def _to_fetch(name: str, repository: str, **known: Any) -> Inspection:
    detail = f"{repository} is not in the cache of the Hugging Face hub."
    facts = {"source": f"{constants.ENDPOINT}/{repository}", "licence": _ON_ITS_PAGE, **known}
    return Inspection(name, "missing", detail, automatic=True, **facts)


def _verify(file: Path | None) -> None:
    """Compare a large file in the cache of the hub with its name there, which is its SHA-256.

    Raises:
        InputError: they differ; the file is removed.
    """
    stored = file.resolve() if file else None
    if file is None or stored is None or not re.fullmatch("[0-9a-f]{64}", stored.name):
        return
    found = file_hash(stored, "sha256")
    if found != stored.name:
        stored.unlink()
        file.unlink()
        raise InputError(f"{file} has SHA-256 {found}, not {stored.name}: what came was removed, try again.")
