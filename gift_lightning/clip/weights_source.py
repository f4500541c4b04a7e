"""The weights of a CLIP as a ``Source``: a file on this machine, or a download from the Hugging Face hub."""

from functools import cached_property
from pathlib import Path
from typing import Any

import open_clip
import torch

from gift_lightning.clip.origin import tag_files
from gift_lightning.clip.outline import outline_name
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.fetch import Report
from gift_lightning.files import read_json
from gift_lightning.hub import HUB_CONFIG, HUB_WEIGHTS, TOKENIZER_FILES, cached_file, not_cached, verify
from gift_lightning.sources import Inspection

_SUFFIXES = (".safetensors", ".bin", ".pth")
_SMALL = 5_000_000  # bytes of a tokenizer, a config and the like, at most


class CLIPWeights:
    """The weights of a CLIP, and the files of its text tower and tokenizer if they come from the hub; a ``Source``.

    Args:
        clip: the choice of a config.
    """

    name = "CLIP"

    def __init__(self, clip: CLIPSource) -> None:
        self.clip = clip

    def inspect(self) -> Inspection:
        """Their state on this machine, without the network."""
        try:
            name = self.clip.check()
        except InputError as error:
            return Inspection(self.name, "missing", str(error))
        file = self.clip.weights or self.clip.pretrained
        weights = Path(file) if file and Path(file).is_file() else None
        scheme, _, place = name.partition(":")
        if scheme == "local-dir":
            folder = Path(place)
            weights = weights or next((path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES), None)
            if weights is None:
                detail = f"model.clip.name: {folder} holds no weights."
                return Inspection(self.name, "missing", detail, where=folder)
            return self._with_text_tower(weights, _text_config(folder / HUB_CONFIG), has_tokenizer=True)
        is_on_hub = scheme == "hf-hub"
        if weights is None:
            repository, files = (place, HUB_WEIGHTS) if is_on_hub else tag_files(name, str(self.clip.pretrained))
            weights = next(filter(None, (cached_file(repository, file) for file in files)), None)
            if weights is None:
                return not_cached(self.name, repository, self._size)
        if not is_on_hub:
            return self._with_text_tower(weights, open_clip.get_model_config(name)["text_cfg"])
        config = cached_file(place, HUB_CONFIG)
        return self._with_text_tower(weights, _text_config(config)) if config else not_cached(self.name, place)

    def _with_text_tower(self, weights: Path, text: dict[str, Any], has_tokenizer: bool = False) -> Inspection:
        """The inspection of a CLIP with weights: its text tower and its tokenizer may be in other repositories."""
        needed = {"hf_model_name": ("config.json",)} | ({} if has_tokenizer else {"hf_tokenizer_name": TOKENIZER_FILES})
        for key, files in needed.items():
            if text.get(key) and not any(cached_file(text[key], file) for file in files):
                return not_cached(self.name, text[key], _SMALL)
        return Inspection(self.name, "present", where=weights)

    @cached_property
    def _size(self) -> int | None:
        """Bytes of the weights in float32; ``None`` if the config of the CLIP is not on this machine either."""
        if outline_name(self.clip.name) is None:
            return None
        with torch.device("meta"):
            return sum(weight.nbytes for weight in self.clip.load().parameters())

    def download(self, report: Report) -> None:
        """Fetch the missing files into the cache of the hub.

        Args:
            report: unused: the hub's library shows its progress itself.

        Raises:
            InputError: a file cannot be fetched, or has another checksum.
        """
        try:
            self.clip.load()
        finally:  # also if a damaged file cannot be loaded
            if file := self.inspect().where:
                verify(file)


def _text_config(file: Path) -> dict[str, Any]:
    config: dict[str, Any] = read_json(file)["model_cfg"]["text_cfg"]
    return config
