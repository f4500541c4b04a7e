"""Where a run takes place: versions, device, memory."""

import contextlib
import platform
import sys
from importlib import metadata
from typing import Any

import torch


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = ("gift-lightning", "torch", "torchvision", "lightning", "open_clip_torch", "timm", "numpy")
    found = {name: _version(name) for name in packages}
    return {"python": platform.python_version(), **{name: version for name, version in found.items() if version}}


def environment(device: torch.device, world_size: int, precision: str) -> dict[str, Any]:
    """The content of ``environment.json``: this process and its machine, and the settings given."""
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
        "world_size": world_size,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "command": sys.argv,
    }


def peak_memory(device: torch.device) -> int:
    """The most memory that this process used, in bytes: on a GPU that of its tensors, else its resident set.

    0 where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(ImportError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return 0


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
