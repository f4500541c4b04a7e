"""Products of float32 matrices: TF32 in runs on CUDA, and the state of the process after them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gift_lightning.runs.float32 import float32_products


def state() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


def trainer(device: str, precision: str) -> Any:
    """What is asked of a trainer; a real one for CUDA needs a GPU."""
    return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), precision=precision)


def test_a_run_on_cuda_multiplies_as_its_setting_says_and_leaves_no_trace() -> None:
    before = state()
    for tf32, expected in ((True, ("high", True)), (False, ("highest", False))):
        with pytest.raises(ValueError, match="in the run"), float32_products(trainer("cuda", "32-true"), tf32):
            assert state() == expected
            raise ValueError("in the run")
        assert state() == before


@pytest.mark.parametrize(("device", "precision"), [("cpu", "32-true"), ("cuda", "64-true"), ("cuda", "bf16-mixed")])
def test_other_runs_are_left_alone(device: str, precision: str) -> None:
    before = state()
    with float32_products(trainer(device, precision), tf32=True):
        assert state() == before
