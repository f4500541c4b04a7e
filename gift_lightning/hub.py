"""What the cache of the Hugging Face hub holds on this machine; nothing here asks the network."""

from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache

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
