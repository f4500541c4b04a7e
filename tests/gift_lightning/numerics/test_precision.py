"""Products of float32 matrices: TF32 on CUDA, and the state of the process after them."""

import subprocess
import sys

import pytest
import torch

from gift_lightning.numerics.precision import float32_products, products_of_process


def test_a_cuda_device_multiplies_as_asked_and_no_trace_is_left() -> None:
    before = products_of_process()
    for tf32, expected in ((True, ("high", True)), (False, ("highest", False))):
        with pytest.raises(ValueError, match="within"), float32_products(torch.device("cuda"), tf32):
            assert products_of_process() == expected
            raise ValueError("within")
        assert products_of_process() == before


def test_other_devices_are_left_alone() -> None:
    before = products_of_process()
    with float32_products(torch.device("cpu"), tf32=True):
        assert products_of_process() == before


def test_the_choice_of_a_process_by_torchs_other_settings_stays() -> None:
    program = """
import torch
from gift_lightning.numerics.precision import float32_products
torch.backends.cuda.matmul.fp32_precision = "tf32"
with float32_products(torch.device("cuda"), tf32=False):
    print(torch.backends.cuda.matmul.fp32_precision)
"""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has no such settings")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "tf32\n"
