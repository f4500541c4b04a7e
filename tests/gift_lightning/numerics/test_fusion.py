"""What holds for any delta models that are fused."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gift_lightning.numerics.fusion import Decoupled, fuse, pack_mask, unify, unpack_mask

SHAPES = {"a": (7,), "b": (3, 5), "scale": ()}
# eighths add up without rounding, so that the order of models cannot matter
ENTRY = st.integers(-24, 24).map(lambda eighths: eighths / 8)


@st.composite
def delta(draw: st.DrawFn) -> dict[str, Tensor]:
    sizes = {name: torch.Size(shape).numel() for name, shape in SHAPES.items()}
    values = {name: draw(st.lists(ENTRY, min_size=size, max_size=size)) for name, size in sizes.items()}
    return {name: torch.tensor(value, dtype=torch.float64).view(SHAPES[name]) for name, value in values.items()}


deltas = st.lists(delta(), min_size=1, max_size=4)
checked = settings(derandomize=True, database=None, deadline=None, max_examples=60)


@pytest.fixture(autouse=True)
def _deltas_of_zeros_are_welcome_here():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*its rescaler is set to 1.*")
        yield


def assert_points_the_same_way(ours: Decoupled, original: dict[str, Tensor]) -> None:
    for name, tensor in original.items():
        assert ((ours[name] == 0) | (ours[name].sign() == tensor.sign())).all()


@checked
@given(deltas)
def test_a_decoupled_delta_points_the_way_of_its_own(models):
    fusion = unify(models)
    for task, model in enumerate(models):
        assert_points_the_same_way(Decoupled(fusion, task), model)


@checked
@given(deltas)
def test_it_still_does_after_all_sessions(models):
    fusion = None
    for model in models:
        fusion = fuse(fusion, model)
    for task, model in enumerate(models):
        assert_points_the_same_way(Decoupled(fusion, task), model)


@checked
@given(deltas)
def test_a_decoupled_delta_is_as_large_as_its_own(models):
    fusion = unify(models)
    for task, model in enumerate(models):
        ours = Decoupled(fusion, task)
        kept = sum(ours[name].abs().mean() for name in model)
        if kept:
            assert float(kept) == pytest.approx(float(sum(tensor.abs().mean() for tensor in model.values())))


@checked
@given(delta())
def test_one_delta_is_itself(model):
    fusion = unify([model])
    for name, tensor in model.items():
        assert torch.equal(fusion.unified[name], tensor)
        assert torch.allclose(Decoupled(fusion, 0)[name], tensor, rtol=1e-12)


@checked
@given(deltas, st.randoms(use_true_random=False))
def test_at_once_the_order_does_not_matter(models, random):
    order = list(range(len(models)))
    random.shuffle(order)
    fusion, shuffled = unify(models), unify([models[task] for task in order])
    for name in SHAPES:
        assert torch.equal(fusion.unified[name], shuffled.unified[name])
    for place, task in enumerate(order):
        assert torch.equal(fusion.masks[task], shuffled.masks[place])
        assert fusion.rescalers[task] == pytest.approx(shuffled.rescalers[place])


@checked
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_a_packed_mask_gives_back_any_part(bits, data):
    mask = torch.tensor(bits)
    first = data.draw(st.integers(0, len(bits) - 1))
    count = data.draw(st.integers(1, len(bits) - first))
    packed = pack_mask(mask)
    assert len(packed) == -(-len(bits) // 8)
    assert torch.equal(unpack_mask(packed, first, count), mask[first : first + count])
