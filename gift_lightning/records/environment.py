"""The environment of a run: versions, device, memory."""

import contextlib
import platform
import sys
from importlib import metadata
from typing import Any

import torch


def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that affect numbers, by name."""
    packages = ("gift-lightning", "torch", "torchvision", "lightning", "open_clip_torch", "timm", "numpy")
    installed = {name: version for name in packages if (version := _version(name))}
    return {"python": platform.python_version(), **installed}


def environment(device: torch.device, world_size: int, precision: str) -> dict[str, Any]:
    """The content of ``environment.json``: this process and its machine, and the arguments.

    Args:
        device: of this rank.
        world_size: number of ranks.
        precision: of the trainer.
    """
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
        "world_size": world_size,
        "precision": precision,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),  # "high" is TF32, see RunFolder
        "threads": torch.get_num_threads(),
        "command": sys.argv,
    }


def peak_memory(device: torch.device) -> int:
    """The peak memory of this process in bytes: of its tensors on a GPU, else of its resident set.

    0 on a system without this figure.
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
