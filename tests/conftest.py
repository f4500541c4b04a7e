"""Settings of all tests: no network, and one thread, so that sums are taken in the same order every time.

``OMP_NUM_THREADS=2`` gives them two, and ``ATEN_CPU_CAPABILITY=default`` the kernels of a CPU without AVX.
"""

import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def hears_interrupts() -> None:
    """Each test begins as in a shell's foreground: Lightning ignores Ctrl-C from the first one to a process's end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
