"""The environment of a run: versions, device, memory."""

import contextlib
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from gift_lightning.numerics.precision import products_of_process


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
        "device_name": _name_of(device),
        "world_size": world_size,
        "precision": precision,
        "float32_products": list(products_of_process() or ()),  # of matrices, and whether convolutions are in TF32
        "threads": torch.get_num_threads(),
        "command": sys.argv,
    }


def machine(device: torch.device, ranks: int) -> str:
    """The machine on which seconds were measured, in words.

    Args:
        device: of this process.
        ranks: processes of the run, each with such a device.

    >>> machine(torch.device("cpu"), 2).endswith("in each of 2 processes")
    True
    """
    if device.type == "cuda":
        return _name_of(device) if ranks == 1 else f"{ranks} x {_name_of(device)}"
    threads = torch.get_num_threads()
    name = f"{_name_of(device)}, {threads} thread{'s' * (threads > 1)}"
    return name if ranks == 1 else f"{name} in each of {ranks} processes"


def _name_of(device: torch.device) -> str:
    """The name of a GPU, or the model of the CPU; Python knows it on some systems only."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "an unknown CPU"


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
