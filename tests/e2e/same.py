"""When runs that add the same numbers in another order are the same: two ranks and one process, two batches and one.

Gradients at equal weights differ by their rounding alone. Weights differ by more: Adam divides a gradient by its own
size, so that of an entry whose true gradient is zero (a key bias, a channel that no image reaches) or passes zero it
makes steps as long as any other's out of rounding, and the pull of a penalty on weights multiplies them (see
``tests/golden/test_trajectories.py``). These entries are few. So gradients have to agree to the last digits, all but
one in a hundred weights nearly so, and the few no better than steps of Adam allow.
"""

import csv
from pathlib import Path

import torch
from torch import Tensor

from gift_lightning.numerics.fusion import unpack_mask
from tests.e2e.conftest import final_weights, read_results

KEY_BIAS = "attn.in_proj_bias"
TASKS = 3
GRADIENTS = 1e-12
"""Of the largest entry of a tensor; in float64, sums of some thousand terms in two orders differ by less than 1e-13."""

MOST = 0.99
SHARE = 1e-7
"""Part of the way that Adam can walk, by which most weights differ at most: in float64 a rounding of 1e-17 in a
gradient below Adam's epsilon of 1e-8 changes a step by 1e-9 of its length."""


def without_key_bias(name: str, tensor: Tensor) -> Tensor:
    """The entries of a tensor, flat, but for those of the key bias, which has no true gradient."""
    parts = tensor.double().flatten().chunk(3)
    return torch.cat([parts[0], parts[2]] if name.endswith(KEY_BIAS) else parts)


def walked(folder: Path) -> float:
    """How far Adam can have walked in a run: the sum of the rates of all steps, as far as ``metrics.csv`` has them."""
    total, before = 0.0, -1
    with (folder / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            if row["lr"]:
                total += float(row["lr"]) * (int(row["step"]) - before)
                before = int(row["step"])
    return total


def apart(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> tuple[float, float]:
    """The distance that most weights do not exceed, and the largest one."""
    assert ours.keys() == theirs.keys()
    differences = [without_key_bias(name, ours[name]) - without_key_bias(name, theirs[name]) for name in theirs]
    distances = torch.cat(differences).abs().sort().values
    return distances[int(MOST * (len(distances) - 1))].item(), distances[-1].item()


def assert_same_weights(ours: dict[str, Tensor], theirs: dict[str, Tensor], way: float, share: float = SHARE) -> None:
    """Most weights differ by ``share`` of the way that Adam can walk, and none by more than both can walk apart."""
    most, largest = apart(ours, theirs)
    assert most <= share * way, f"{1 - MOST:.0%} of the weights differ by more than {most:.1e}"
    assert largest <= 2 * way


def assert_same_end(ours: Path, theirs: Path, share: float = SHARE) -> None:
    """Two run folders have the same accuracies, and the same weights or what else was learned."""
    mine, other = read_results(ours), read_results(theirs)
    assert mine["R"] == other["R"] and mine["zero_shot"] == other["zero_shot"]
    weights, expected = final_weights(ours), final_weights(theirs)
    noisy = any(name.endswith(KEY_BIAS) for name in weights)
    for name in [name for name in weights if not torch.is_floating_point(weights[name])]:
        if noisy and name.startswith("mask."):
            assert torch.equal(settled(weights[name], weights), settled(expected[name], weights)), name
        else:
            assert torch.equal(weights[name], expected[name]), name
    assert_same_weights(comparable(weights), comparable(expected), walked(theirs), share)


def comparable(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of floating point; without the factors of a fusion, which are sums over key biases too."""
    return {name: w for name, w in weights.items() if torch.is_floating_point(w) and name != "rescalers"}


def settled(packed: Tensor, kept: dict[str, Tensor]) -> Tensor:
    """A mask without the entries that only rounding has moved, those of key biases."""
    moved = torch.cat([tensor.flatten() for name, tensor in kept.items() if name.startswith("unified.")]).abs() > 1e-6
    return unpack_mask(packed, 0, len(moved))[moved]


def assert_same_steps(ours: Path, theirs: Path, way: float, gradients: float = GRADIENTS, share: float = SHARE) -> None:
    """What ``KeepSteps`` kept of a run and of one that followed it: gradients, importances and weights of each task."""
    for task in range(TASKS):
        mine, other = (torch.load(folder / f"step{task}.pt") for folder in (ours, theirs))
        assert mine.keys() == other.keys()
        for kind in mine.keys() - {"weights"}:
            assert mine[kind].keys() == other[kind].keys()
            for name, expected in other[kind].items():
                expected = without_key_bias(name, expected)
                difference = (without_key_bias(name, mine[kind][name]) - expected).abs().max()
                assert difference <= gradients * expected.abs().max(), (task, kind, name, difference)
        for moment in (f"step{task}.pt", f"task{task}.pt"):
            weights, expected = (torch.load(folder / moment)["weights"] for folder in (ours, theirs))
            assert_same_weights(weights, expected, way, share)
