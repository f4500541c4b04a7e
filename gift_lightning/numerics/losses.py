"""Losses on features of image-text pairs: pure functions of tensors."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Pairs(NamedTuple):
    """Unit features of ``B`` images ``[B, D]`` and of ``P`` texts ``[P, D]``; in replayed pairs, row ``i`` of both
    belongs to pair ``i``.
    """

    image: Tensor
    text: Tensor

    def logits(self, scale: Tensor | float) -> Tensor:
        """``M[i, j] = scale * cos(image i, text j)``, ``[B, P]``; never in half precision."""
        with torch.autocast(self.image.device.type, enabled=False):
            return scale * self.image @ self.text.T


def distillation(teacher: Tensor, student: Tensor, temperature: float = 2.0) -> Tensor:
    """Soft cross-entropy ``T^2 * mean_i H(softmax(teacher_i / T), softmax(student_i / T))`` of logits ``[n, m]``.

    Its gradient is that of ``T^2 KL(teacher || student)``; the entropy of the teacher stays in the value, as in the
    authors' code.

    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> distillation(logits, logits, temperature=1.0)
    tensor(0.3653)
    """
    targets = (teacher / temperature).softmax(1)
    return temperature**2 * F.cross_entropy(student / temperature, targets)


def reversed_divergence(teacher: Tensor, student: Tensor, temperature: float = 2.0) -> Tensor:
    """``T^2 * mean_i KL(softmax(student_i / T) || softmax(teacher_i / T))`` of logits ``[n, m]``.

    The ablation that GIFT's authors call ``kl_div``: the divergence in the direction opposite to ``distillation``.

    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> reversed_divergence(logits, logits)
    tensor(0.)
    """
    ours, theirs = (student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(theirs, ours, reduction="batchmean", log_target=True)


def contrastive_distillation(
    teacher: Tensor, student: Tensor, temperature: float = 2.0, reverse: bool = False
) -> dict[str, Tensor]:
    """Both directions of distillation on image-text logits ``[B, P]``: each image over the texts, each text over the
    images (ZSCL; with the texts of the images, GIFT's "contrastive distillation"). The loss is their sum.
    """
    divergence = reversed_divergence if reverse else distillation
    return {
        "image_distillation": divergence(teacher, student, temperature),
        "text_distillation": divergence(teacher.T, student.T, temperature),
    }


def similarities(features: Tensor, scale: Tensor | float) -> Tensor:
    """``scale * cos(image i, image j)`` of unit features ``[B, D]``, each image over the others: ``[B, B - 1]``.

    >>> similarities(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), 2.0)
    tensor([[0., 2.],
            [0., 0.],
            [2., 0.]])
    """
    with torch.autocast(features.device.type, enabled=False):
        logits = scale * features @ features.T
    count = len(features)
    return logits[~torch.eye(count, dtype=torch.bool, device=logits.device)].view(count, count - 1)


def feature_distance(teacher: Pairs, student: Pairs) -> dict[str, Tensor]:
    """Mean squared error, over all elements, of image features and of text features."""
    return {
        "image_distillation": F.mse_loss(student.image, teacher.image),
        "text_distillation": F.mse_loss(student.text, teacher.text),
    }


def alignment_targets(prompts: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Which text belongs to which image, ``[B, B]`` with rows that sum to 1, from the prompt of each pair ``[B]``.

    Pairs with the same prompt share the target evenly.

    >>> alignment_targets(torch.tensor([7, 3, 7]))
    tensor([[0.5000, 0.0000, 0.5000],
            [0.0000, 1.0000, 0.0000],
            [0.5000, 0.0000, 0.5000]])
    """
    same = (prompts[:, None] == prompts[None, :]).to(dtype)
    return same / same.sum(1, keepdim=True)


def alignment(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> dict[str, Tensor]:
    """Cross-entropy of image-text logits ``[B, B]`` with hard targets, in both directions (GIFT, "image-text
    alignment"). The loss is their sum.
    """
    return {
        "image_alignment": F.cross_entropy(logits, targets, label_smoothing=label_smoothing),
        "text_alignment": F.cross_entropy(logits.T, targets, label_smoothing=label_smoothing),
    }
