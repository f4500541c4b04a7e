"""Training runs of MoE-Adapters, its selector and its evaluation against the numbers of its authors' code."""

import pytest
import torch

from gift_lightning.numerics.mixture import top_experts
from tests.golden.golden import noise, shipped_only
from tests.golden.moe import (
    IMAGE_BLOCKS,
    GoldenMoE,
    Record,
    assert_moe_probes,
    fit,
    in_their_names,
    losses_of,
    rows_of,
    run_names,
    stored,
)

SEQUENCES: list[list[str | None]] = [
    ["full_task0", "full_task1", "full_task2"],
    ["noise_task0", "noise_task1"],
    ["cil_task0", "cil_task1"],
    ["warm_plain"],
    ["warm_noise"],
    ["warm_topk1"],
    ["warm_topk3"],
    ["warm_topk4"],
    ["warm_image_only"],
    ["warm_wd"],
    [None, None, "warm_task_router2"],
    ["single_router"],
    ["single_adapter"],
]


def assert_gates(record: Record, name: str) -> None:
    """Those of every step and block, and what the routers look at in the first step."""
    file, blocks = stored(f"trajectories/{name}.safetensors"), len(record.gates) // len(record.steps)
    for step in range(len(record.steps)):
        ours = record.gates[step * blocks : (step + 1) * blocks]
        image = torch.stack(ours[:IMAGE_BLOCKS])
        assert (image - file["gates/image"][step]).abs().max() < 1e-9, (name, step)
        if blocks > IMAGE_BLOCKS:
            assert (ours[IMAGE_BLOCKS] - file["gates/text"][step, 0]).abs().max() < 1e-9, (name, step)


def assert_use(record: Record, name: str) -> None:
    """Counts, with those of the step that ours does not make, and what is frozen because of them."""
    run, file = stored(f"trajectories/{name}.json"), stored(f"trajectories/{name}.safetensors")
    towers = [("image", IMAGE_BLOCKS), ("text", 1)]
    last = [(file[f"gates/{t}"][-1, b] > 0).sum(0) for t, n in towers for b in range(n) if f"gates/{t}" in file]
    theirs = [torch.tensor(counts) for tower, _ in towers for counts in run["activation_counts"][tower]]
    places = [f"{tower}{block}" for tower, blocks in towers for block in range(blocks)]
    assert record.counts is not None and record.listed_before is not None
    for row, count in enumerate(record.counts):
        assert torch.equal(count + last[row], theirs[row]), (name, places[row])
        if places[row] not in run["newly_listed_is_a_tie_in"]:
            listed = top_experts((count + last[row])[None], 2)[0].tolist()
            assert sorted(listed) == sorted(run["newly_listed_experts"][places[row]]), (name, places[row])
        before = set(run["frozen_experts_before"].get(places[row], []))
        assert set(record.listed_before[row].nonzero().flatten().tolist()) == before, (name, places[row])


@pytest.mark.parametrize("precision", ["64-true", "32-true"])
@pytest.mark.parametrize("names", SEQUENCES, ids=lambda names: names[-1])
def test_run(names: list[str | None], precision: str) -> None:
    exact = precision == "64-true"
    method = fit(names, precision)
    for name, record in zip(names, method.records, strict=True):
        if name is None:
            continue
        run, file = stored(f"trajectories/{name}.json"), stored(f"trajectories/{name}.safetensors")
        single, double = (losses_of(run[f"steps_{kind}"]) for kind in ("float32", "float64"))
        ours = losses_of(record.steps)
        assert (ours - double[: len(ours)]).abs().max() < (1e-9 if exact else noise(single, double)), name
        for step, theirs in zip(record.steps, run["steps_float64"], strict=False):
            assert step["lr"] == pytest.approx(theirs["lr"], rel=1e-12)
        if not exact:
            single, double = (file[f"final/{kind}"].nan_to_num() for kind in ("probe32", "probe64"))
            assert_moe_probes(record.tensors["final"], file, "final", noise(single, double))
        if exact:
            for moment, tensors in record.tensors.items():
                assert_moe_probes(tensors, file, moment, 1e-9)
            assert_learning(method, record, name)
            if not name.startswith(("cil", "single_adapter")):
                assert_gates(record, name)
            if not name.startswith(("cil", "single")):
                assert_use(record, name)


def assert_learning(method: GoldenMoE, record: Record, name: str) -> None:
    """What may change, and what gets no gradient in the first step."""
    run = stored(f"trajectories/{name}.json")
    if "trainable_parameter_count" not in run:
        return
    mine = method.adapters
    assert mine is not None
    router = sum(64 * method.settings.experts * (1 + method.settings.noise) for _ in mine.all_blocks)
    experts, theirs = record.trained - router, run["trainable_parameter_count"]
    pairs = {"single_router": 1, "single_adapter": 0}.get(name, 11)  # theirs has those of all tasks
    assert experts + pairs * sum(64 * 4 * 2 for _ in mine.all_blocks) == theirs
    named = in_their_names(rows_of(mine.tensors(mine.routers)))
    assert record.without_gradient == named.keys() & set(run["parameters_without_gradient_at_step0"])


@shipped_only
def test_every_stored_run_is_compared() -> None:
    assert sorted(name for names in SEQUENCES for name in names if name) == run_names()
