"""Losses, importances and penalties against their definitions, in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gift_lightning.numerics.consolidation import distance_to_anchor, normalised_fisher_, pull_to_anchor
from gift_lightning.numerics.losses import Pairs, alignment, alignment_targets, contrastive_distillation, distillation


def unit(seed: int, rows: int = 6, width: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64), dim=1)


def test_distillation_has_the_gradient_of_the_divergence() -> None:
    teacher, student = unit(0) * 3, (unit(1) * 3).requires_grad_()
    ours = torch.autograd.grad(distillation(teacher, student, 2.0), student)[0]
    log_student, targets = (student / 2).log_softmax(1), (teacher / 2).softmax(1)
    divergence = 4 * F.kl_div(log_student, targets, reduction="batchmean")
    assert (ours - torch.autograd.grad(divergence, student)[0]).abs().max() < 1e-12


def test_contrastive_losses_see_both_directions() -> None:
    teacher, student = Pairs(unit(0), unit(1)), Pairs(unit(2), unit(3))
    parts = contrastive_distillation(teacher.logits(10.0), student.logits(10.0))
    swapped = contrastive_distillation(Pairs(unit(1), unit(0)).logits(10.0), Pairs(unit(3), unit(2)).logits(10.0))
    assert parts["image_distillation"].item() == pytest.approx(swapped["text_distillation"].item(), abs=1e-12)
    assert parts["text_distillation"].item() == pytest.approx(swapped["image_distillation"].item(), abs=1e-12)


def test_pairs_with_one_prompt_align_as_one_class() -> None:
    prompts = torch.tensor([0, 1, 0, 2])
    text = unit(0, rows=3)[prompts]
    logits = Pairs(unit(1, rows=4), text).logits(5.0)
    ours = alignment(logits, alignment_targets(prompts, torch.float64), 0.1)
    diagonal = alignment(logits, torch.eye(4, dtype=torch.float64), 0.1)
    total, identity = sum(ours.values()), sum(diagonal.values())
    assert ours["image_alignment"].item() == pytest.approx(diagonal["image_alignment"].item(), abs=1e-12)
    assert total != identity  # images of one prompt differ here: the text direction shares the target among them


def test_fisher_importance_is_scale_free_and_marks_untouched_tensors() -> None:
    square, like = unit(0).square(), unit(0)
    importance, scaled, untouched = normalised_fisher_([square, 7 * square, None], [like, like, like])
    assert importance.mean().item() == pytest.approx(1.0)
    assert (importance - scaled).abs().max() < 1e-12
    assert (untouched == 1e-6).all()
    assert normalised_fisher_([torch.zeros(3)], [torch.zeros(3)])[0].isfinite().all()


def test_weighted_penalty_is_that_of_autograd() -> None:
    theta, anchor, importance = unit(0).requires_grad_(), unit(1), unit(2).abs()
    expected = torch.autograd.grad(0.3 * (importance * (theta - anchor).square()).sum(), theta)[0]
    pull_to_anchor([theta], [anchor], 0.3, [importance])
    value = distance_to_anchor([theta], [anchor], 0.3, [importance])
    assert theta.grad is not None
    assert (theta.grad - expected).abs().max() < 1e-12
    assert value.item() == pytest.approx(0.3 * (importance * (theta - anchor).square()).sum().item())
