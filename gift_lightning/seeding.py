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


def seed_generators(seed: int) -> None:
    """Seed the global generators, from which image transforms draw: Python's, NumPy's and torch's on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
