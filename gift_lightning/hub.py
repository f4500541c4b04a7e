"""What the cache of the Hugging Face hub holds on this machine; nothing here asks the network."""

import re
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache

from gift_lightning.errors import InputError
from gift_lightning.files import file_hash
from gift_lightning.sources import ON_ITS_PAGE, Inspection

HUB_CONFIG = "open_clip_config.json"
"""Describes a model of open_clip, in its repository or folder."""

HUB_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Hold its weights there, the best first."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
"""Files of which every tokenizer there has one."""

HOW_TO_FETCH = "fetch it with 'python -m gift_lightning doctor --config FILE --download'"


def cached_file(repository: str, name: str, revision: str | None = None) -> Path | None:
    """Where a file of a repository lies in the cache; ``None`` if it is not there."""
    found = try_to_load_from_cache(repository, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def is_offline() -> bool:
    """Whether the environment (``HF_HUB_OFFLINE=1``, as in all commands but a download) forbids to ask the hub."""
    return bool(constants.HF_HUB_OFFLINE)


def not_cached(name: str, repository: str, size: int | None = None, licence: str = ON_ITS_PAGE) -> Inspection:
    """The verdict on a source that is on the hub alone, from which it can be fetched.

    Args:
        name: of the source.
        repository: which the cache lacks, or a file of it.
        size: bytes of the download, if they are known.
        licence: of what is in it.
    """
    return Inspection(
        name,
        "missing",
        f"{repository} is not in the cache of the Hugging Face hub.",
        source=f"{constants.ENDPOINT}/{repository}",
        bytes=size,
        licence=licence,
        automatic=True,
        into=Path(constants.HF_HUB_CACHE),
    )


def verify(file: Path) -> None:
    """Compare a large file in the cache with its name there, which is its SHA-256; any other file is left alone.

    Raises:
        InputError: they differ; the file is removed.
    """
    stored = file.resolve()
    if not re.fullmatch("[0-9a-f]{64}", stored.name):
        return
    found = file_hash(stored, "sha256")
    if found != stored.name:
        stored.unlink()
        file.unlink()
        raise InputError(f"{file} has SHA-256 {found}, not {stored.name}: what came was removed, try again.")
