"""Settings of all tests: no network, and one thread, so that sums are taken in the same order every time.

``OMP_NUM_THREADS=2`` gives them two, and ``ATEN_CPU_CAPABILITY=default`` the kernels of a CPU without AVX.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
