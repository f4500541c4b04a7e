"""What the cache of the Hugging Face hub holds on this machine; nothing here asks the network."""

from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache


def cached_file(repository: str, name: str, revision: str | None = None) -> Path | None:
    """Where a file of a repository lies in the cache; ``None`` if it is not there."""
    found = try_to_load_from_cache(repository, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def is_offline() -> bool:
    """Whether the environment (``HF_HUB_OFFLINE=1``) forbids to fetch anything from the hub."""
    return bool(constants.HF_HUB_OFFLINE)
