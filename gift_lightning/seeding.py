"""Seeds as a function of their purpose, independent of earlier draws."""

import hashlib
import random

import numpy as np
import torch


def stream_seed(*key: int | str) -> int:
    """A 63-bit seed that depends on ``key`` alone, e.g. ``(seed, "augment", task, ordinal)``.

    Equal on every machine, process and version, unlike ``hash``.

    >>> stream_seed(0, "shuffle", 1) == stream_seed(0, "shuffle", 1)
    True
    >>> stream_seed(0, "shuffle", 1) == stream_seed(0, "shuffle", 2)
    False
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_generators(seed: int, device: torch.device | None = None) -> None:
    """Seed the global generators: Python's, NumPy's and torch's on the CPU, and torch's on ``device``.

    Image transforms draw from those on the CPU. ``torch.manual_seed`` gives the same numbers and takes far
    longer: it seeds every device of every kind.

    Args:
        seed: 0 or more.
        device: the current one of its kind, for a model that draws there.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
