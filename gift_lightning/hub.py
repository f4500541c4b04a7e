"""The cache of the Hugging Face hub on this machine; no function here uses the network."""

import re
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache

from gift_lightning.errors import InputError
from gift_lightning.files import file_hash
from gift_lightning.sources import ON_ITS_PAGE, Inspection

HUB_CONFIG = "open_clip_config.json"
"""Name of the file with the config of an open_clip model, in its repository or folder."""

HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Names of the file with its weights, the best first."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
"""File names; every tokenizer on the hub has one of them."""

HOW_TO_FETCH = "fetch it with 'python -m gift_lightning doctor --config FILE --download'"
"""Advice in messages about a missing file."""


def cached_file(repository: str, name: str, revision: str | None = None) -> Path | None:
    """The path of a repository's file in the cache; ``None`` if the cache lacks it."""
    path = try_to_load_from_cache(repository, name, revision=revision)
    return Path(path) if isinstance(path, str) else None


def is_offline() -> bool:
    """Whether the environment forbids the network: ``HF_HUB_OFFLINE=1``, as in all commands but a download."""
    return bool(constants.HF_HUB_OFFLINE)


def not_cached(name: str, repository: str, size: int | None = None, licence: str = ON_ITS_PAGE) -> Inspection:
    """The inspection of a source that is missing in the cache and can be fetched from the hub.

    Args:
        name: of the source.
        repository: of the hub.
        size: bytes of the download; ``None`` if unpublished.
        licence: of its content.
    """
    return Inspection(
        name,
        "missing",
        f"{repository} is not in the cache of the Hugging Face hub.",
        url=f"{constants.ENDPOINT}/{repository}",
        bytes=size,
        licence=licence,
        automatic=True,
        into=Path(constants.HF_HUB_CACHE),
    )


def verify(file: Path) -> None:
    """Check a large file in the cache, whose name is its SHA-256; other files are not checked.

    Raises:
        InputError: the hash differs; the file is removed.
    """
    stored = file.resolve()
    if not re.fullmatch("[0-9a-f]{64}", stored.name):
        return
    digest = file_hash(stored, "sha256")
    if digest != stored.name:
        stored.unlink()
        file.unlink()
        raise InputError(f"{file} has SHA-256 {digest}, not {stored.name}: the file was removed, try again.")
