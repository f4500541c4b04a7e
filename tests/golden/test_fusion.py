"""ConDU's fusion of delta models against the numbers of its authors' code."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from gift_lightning.clip.model import CLIP
from gift_lightning.numerics.fusion import Decoupled, Fusion, delta_of, fuse, pack_mask, unify, unpack_mask
from gift_lightning.numerics.prototypes import aggregate, class_prototypes, nearest_tasks, task_similarities
from tests.golden.golden import GoldenTask, TinyCLIP, noise, numbers, probes, shipped_only, stored_images

DTYPES = {"f32": torch.float32, "f64": torch.float64}
TRAINED = {"TaskA": "finetune", "TaskB": "finetune_B", "TaskR": "finetune_R"}


def names() -> list[str]:
    return numbers("probe_names.json")["names"]


def stored_deltas(dtype: torch.dtype) -> list[dict[str, Tensor]]:
    start = {name: numbers("tiny_clip.safetensors")[name].to(dtype) for name in names()}
    files = [numbers(f"weights/{file}.safetensors") for file in TRAINED.values()]
    return [delta_of(start, {name: trained[name].to(dtype) for name in start}) for trained in files]


def sessions(deltas: Sequence[dict[str, Tensor]]) -> list[Fusion]:
    fused: list[Fusion] = []
    for delta in deltas:
        fused.append(fuse(fused[-1] if fused else None, delta))
    return fused


def assert_stored(ours: Tensor, precision: str, key: str, exact: float) -> None:
    """Equal to a stored tensor of a precision: to ``exact`` in float64, in float32 as the two stored ones are."""
    single, double = (numbers("condu.safetensors")[f"{kind}/{key}"].double() for kind in DTYPES)
    difference = (ours - (single if precision == "f32" else double)).abs().nan_to_num().max()
    assert difference < (exact if precision == "f64" else noise(single, double)), key


def assert_fusion(fusion: Fusion, precision: str, key: str) -> None:
    assert_stored(torch.tensor(fusion.rescalers, dtype=torch.float64), precision, f"{key}/rescalers", 1e-12)
    assert_stored(probes(fusion.unified)[0], precision, f"{key}/unified/probe", 1e-12)
    for task, counts in enumerate(numbers("condu.safetensors")[f"{precision}/{key}/mask_true_counts"]):
        first = 0
        for name, count in zip(names(), counts.tolist(), strict=True):
            size = fusion.unified[name].numel()
            assert unpack_mask(fusion.masks[task], first, size).sum() == count, name
            first += size


@pytest.mark.parametrize("precision", DTYPES)
def test_sessions_and_unifying_at_once(precision: str) -> None:
    deltas = stored_deltas(DTYPES[precision])
    fused = sessions(deltas)
    for session, fusion in enumerate(fused):
        assert_fusion(fusion, precision, f"session{session}")
    assert_fusion(unify(deltas), precision, "oneshot")


def test_masks_are_theirs_bit_for_bit() -> None:
    stored = numbers("condu.safetensors")
    for session, fusion in enumerate(sessions(stored_deltas(torch.float32))):
        for task, mask in zip(TRAINED, fusion.masks, strict=False):
            assert torch.equal(mask, stored[f"f32/session{session}/mask_packed/{task}"]), (session, task)


def test_unified_delta_is_theirs_everywhere() -> None:
    stored, fusion = numbers("condu.safetensors"), sessions(stored_deltas(torch.float32))[-1]
    tolerance = noise(stored["f32/session2/unified/probe"], stored["f64/session2/unified/probe"])
    for name in names():
        assert (fusion.unified[name] - stored[f"f32/session2/unified/full/{name}"]).abs().max() < tolerance, name


@shipped_only
def test_sessions_are_not_the_same_as_unifying_at_once() -> None:
    deltas = stored_deltas(torch.float64)

    def distance(ours: Fusion, theirs: Fusion) -> float:
        both = [torch.cat([tensor.flatten() for tensor in fusion.unified.values()]) for fusion in (ours, theirs)]
        return ((both[0] - both[1]).norm() / both[1].norm()).item()

    last = sessions(deltas)[-1]
    assert distance(last, unify(deltas)) == pytest.approx(0.34, abs=0.01)
    others = [sessions([deltas[i] for i in order])[-1] for order in ((0, 2, 1), (1, 2, 0))]
    assert 0.2 < min(distance(other, last) for other in others) < max(distance(other, last) for other in others) < 0.5


@pytest.mark.parametrize(("case", "which"), [("three", (0, 1, 2)), ("two", (0, 1)), ("one", (1,))])
def test_zeros_ties_and_empty_tensors(case: str, which: tuple[int, ...]) -> None:
    stored = numbers("condu.safetensors")
    fusion = unify([{name: stored[f"ops/delta{index}/{name}"] for name in "abc"} for index in which])
    for name in "abc":
        assert torch.equal(fusion.unified[name], stored[f"ops/{case}/unified/{name}"]), name
    for task, mask in enumerate(fusion.masks):
        parts = [stored[f"ops/{case}/masks/{name}"][task].flatten() for name in "abc"]
        assert torch.equal(mask, pack_mask(torch.cat(parts).bool()))
    expected = stored[f"ops/{case}/rescalers"]
    assert (torch.tensor(fusion.rescalers, dtype=torch.float64) - expected).abs().max() < 1e-12


def test_a_delta_of_zeros_is_told_and_changes_no_model() -> None:
    stored = numbers("condu.safetensors")["ops/with_zero_task/rescalers"]
    assert stored[0] == 1 and stored[1].isnan()
    moved = {"w": torch.tensor([1.0, -2.0, 0.0])}
    with pytest.warns(UserWarning, match="its rescaler is set to 1"):
        fusion = unify([moved, {"w": torch.zeros(3)}])
    assert fusion.rescalers == [1.0, 1.0]
    assert torch.equal(Decoupled(fusion, 0)["w"], moved["w"])
    assert torch.equal(Decoupled(fusion, 1)["w"], torch.zeros(3))


# --- aggregation ------------------------------------------------------------------------------------------------------


def model_with(weights: Mapping[str, Tensor], dtype: torch.dtype) -> CLIP:
    clip = TinyCLIP("tiny_clip", dtype=dtype).load().eval()
    clip.model.load_state_dict(dict(weights))
    return clip


def prompts(task: GoldenTask) -> list[str]:
    return [template.format(name) for name in task.class_names for template in task.templates]


@pytest.mark.parametrize("precision", DTYPES)
@torch.no_grad()
def test_prototypes_similarities_and_aggregated_logits(precision: str) -> None:
    dtype = DTYPES[precision]
    start = {name: numbers("tiny_clip.safetensors")[name].to(dtype) for name in names()}
    base, tasks = model_with(start, dtype), [GoldenTask(letter) for letter in "ABR"]
    prototypes = []
    for task in tasks:
        images, labels = stored_images(task.letter)
        text = base.encode_texts(prompts(task)).unflatten(0, (len(task.class_names), -1))
        prototypes.append(class_prototypes(base.encode_image(images.to(dtype)), labels, text))
        assert_stored(prototypes[-1], precision, f"prototypes/{task.name}", 1e-9)
    for session, fusion in enumerate(sessions(stored_deltas(dtype))):
        experts = []
        for index in range(len(fusion)):
            delta = Decoupled(fusion, index)
            experts.append(model_with({name: start[name] + delta[name] for name in start}, dtype))
        for task in tasks:
            key = f"session{session}/eval/{task.name}"
            images = torch.stack([task.test_set[index][0] for index in range(len(task.test_set))]).to(dtype)
            features = base.encode_image(images)
            similarities = task_similarities(features, prototypes[: session + 1])
            assert_stored(similarities, precision, f"{key}/similarity", 1e-9)
            logits = [
                100 * clip.encode_image(images) @ clip.classifier(task.class_prompts()).T for clip in [base, *experts]
            ]
            assert_stored(torch.stack(logits), precision, f"{key}/logits_per_model", 1e-7)
            for count in (1, 2, 4):
                chosen = nearest_tasks(similarities, count)
                ours = aggregate(logits[0], lambda index, rows: logits[1 + index][rows], chosen)  # noqa: B023
                assert_stored(ours, precision, f"{key}/L{count}/logits", 1e-7)
