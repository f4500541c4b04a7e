"""The weights of a CLIP as a ``Source``: on this machine, or on the Hugging Face hub, from which they are fetched."""

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
    """The weights of a CLIP, and the files of its text tower and tokenizer if they are on the hub.

    Args:
        clip: the CLIP as a config names it.
    """

    name = "CLIP"

    def __init__(self, clip: CLIPSource) -> None:
        self.clip = clip

    def inspect(self) -> Inspection:
        try:
            name = self.clip.check()
        except InputError as error:
            return Inspection(self.name, "missing", str(error))
        given = self.clip.weights or self.clip.pretrained
        weights = Path(given) if given and Path(given).is_file() else None
        scheme, _, place = name.partition(":")
        if scheme == "local-dir":
            folder = Path(place)
            weights = weights or next((path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES), None)
            if weights is None:
                detail = f"model.clip.name: there are no weights in {folder}."
                return Inspection(self.name, "missing", detail, where=folder)
            return self._with_text_tower(weights, _text_config(folder / HUB_CONFIG), has_tokenizer=True)
        is_on_hub = scheme == "hf-hub"
        if weights is None:
            repository, files = (place, HUB_WEIGHTS) if is_on_hub else tag_files(name, str(self.clip.pretrained))
            weights = next(filter(None, (cached_file(repository, file) for file in files)), None)
            if weights is None:
                return not_cached(self.name, repository, self._size)
        if not is_on_hub:
            return self._with_text_tower(weights, open_clip.get_model_config(name)["text_cfg"])  # type: ignore[index]
        config = cached_file(place, HUB_CONFIG)
        return self._with_text_tower(weights, _text_config(config)) if config else not_cached(self.name, place)

    def _with_text_tower(self, weights: Path, text: dict[str, Any], has_tokenizer: bool = False) -> Inspection:
        """The verdict on a CLIP whose weights are there: its text tower and its tokenizer may be other repositories."""
        parts = {"hf_model_name": ("config.json",)} | ({} if has_tokenizer else {"hf_tokenizer_name": TOKENIZER_FILES})
        for key, files in parts.items():
            if text.get(key) and not any(cached_file(text[key], file) for file in files):
                return not_cached(self.name, text[key], _SMALL)
        return Inspection(self.name, "present", where=weights)

    @cached_property
    def _size(self) -> int | None:
        """Bytes of the weights in float32; ``None`` if what describes the CLIP is on the hub too."""
        if outline_name(self.clip.name) is None:
            return None
        with torch.device("meta"):
            return sum(weight.nbytes for weight in self.clip.load().parameters())

    def download(self, report: Report) -> None:
        try:
            self.clip.load()
        finally:  # what is damaged may not be loaded
            if file := self.inspect().where:
                verify(file)


def _text_config(file: Path) -> dict[str, Any]:
    config: dict[str, Any] = read_json(file)["model_cfg"]["text_cfg"]
    return config
