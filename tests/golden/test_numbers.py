"""Schedule, metrics and evaluation against the numbers of the authors' code."""

import re

import pytest
import torch

from callbacks.exemplar_selection import shifted
from datamodules import ExemplarMemory
from datamodules.shard import TestShard
from gift_lightning.methods import ZeroShot
from gift_lightning.numerics import metrics
from gift_lightning.numerics.fusion import interpolate
from gift_lightning.numerics.herding import herding
from gift_lightning.numerics.losses import alignment_targets, distillation, reversed_divergence
from gift_lightning.numerics.schedule import warmup_cosine
from tests.golden.golden import GoldenTask, TinyCLIP, assert_probes, numbers


def test_learning_rate_schedule() -> None:
    for setting, rates in numbers("lr_schedule.json").items():
        found = re.fullmatch(r"lr=(\S+),warmup=(\d+),total=(\d+)", setting)
        assert found, setting
        lr, warmup, total = float(found[1]), int(found[2]), int(found[3])
        for step, rate in rates.items():
            assert lr * warmup_cosine(int(step), warmup, total) == pytest.approx(rate, rel=1e-12, abs=1e-20)


def test_metrics() -> None:
    ours = {
        "Avg.": metrics.avg,
        "Last": metrics.last,
        "Transfer": metrics.transfer,
        "Forget": metrics.backward_transfer,
    }
    for case in numbers("metrics.json").values():
        for name, value in case["precise"].items():
            assert ours[name](case["matrix"]) == pytest.approx(value, abs=1e-8), name
        for name, text in case["official_formatted"].items():
            assert f"{ours[name](case['matrix']):.2f}" == text, name


def test_distillation_operators() -> None:
    stored = numbers("operators.safetensors")
    teacher, student = stored["t"], stored["s"]
    expected = {
        "distillation_T1": distillation(teacher, student, 1.0),
        "distillation_T2": distillation(teacher, student, 2.0),
        "distillation_T2_transposed": distillation(teacher.T, student.T, 2.0),
        "distillation_self_T2": distillation(teacher, teacher, 2.0),
        "kl_divergence_T2": reversed_divergence(teacher, student, 2.0),
    }
    for name, value in expected.items():
        assert value.item() == pytest.approx(stored[name].item(), abs=1e-9), name


def test_alignment_targets() -> None:
    labels = numbers("batches.safetensors")["S_labels"]
    stored = numbers("trajectories/gift_awc.safetensors")["alignment_targets"]
    for batch, expected in zip(labels, stored, strict=True):
        assert (alignment_targets(batch, torch.float64) - expected).abs().max() < 1e-9


@pytest.mark.parametrize("weights", ["tiny_clip", "finetune"])
@pytest.mark.parametrize("letter", ["A", "B", "R"])
def test_evaluation(weights: str, letter: str) -> None:
    stored, expected = numbers("evaluation.safetensors"), numbers("evaluation.json")
    key = f"{weights}/Task{letter}_test"
    source = TinyCLIP("tiny_clip" if weights == "tiny_clip" else f"weights/{weights}")
    module, task = ZeroShot(clip=source).double().eval(), GoldenTask(letter)
    with torch.no_grad():
        classifier = module.clip.classifier(task.class_prompts())
        logits = module.evaluate(task, TestShard(task.test_set, torch.as_tensor, lambda images: images.double()))
    assert (classifier.T - stored[f"{key}/zeroshot_weights"]).abs().max() < 1e-9
    assert (logits - stored[f"{key}/logits"]).abs().max() < 1e-9
    labels = torch.tensor([task.test_set[index][1] for index in range(len(task.test_set))])
    ranks = logits.argsort(dim=1, descending=True)
    for k in (1, 5):
        top = (ranks[:, :k] == labels[:, None]).any(1).double().mean().item() * 100
        assert top == pytest.approx(expected[key][f"top{k}"], abs=1e-9)


@pytest.mark.parametrize("alpha", [0.5, 0.8])
def test_interpolated_weights(alpha: float) -> None:
    stored = numbers("wiseft.safetensors")
    start, trained = numbers("tiny_clip.safetensors"), numbers("weights/finetune.safetensors")
    names = list(start)
    merged = interpolate([start[name] for name in names], [trained[name] for name in names], alpha)
    assert_probes(dict(zip(names, merged, strict=True)), stored, f"alpha{alpha}", 1e-6)


def test_herding() -> None:
    """Their memory after two tasks: what herding chooses, and what their code keeps instead."""
    stored, memory = numbers("batches.safetensors")["B_images_int8"].flatten(0, 1), numbers("icarl_memory.json")
    clip = TinyCLIP("weights/finetune").load().eval()
    with torch.no_grad():
        chosen = herding(clip.encode_image(stored.double() / 32), memory["memory_size"] // 2)
    assert shifted(chosen) == memory["after_task_B"]["TaskB"]
    kept = ExemplarMemory(memory["memory_size"])
    kept.add(0, memory["after_task_A"]["TaskA"])
    kept.add(1, shifted(chosen))
    assert kept.exemplars == [memory["after_task_B"]["TaskA"], memory["after_task_B"]["TaskB"]]
