"""Losses on features of image-text pairs: pure functions of tensors."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Pairs(NamedTuple):
    """Unit features of ``B`` images ``[B, D]`` and of ``P`` texts ``[P, D]``; in replayed pairs, row ``i`` of both
    belongs to pair ``i``.

    >>> Pairs(torch.eye(2), torch.tensor([[0.6, 0.8]])).logits(scale=10.0)
    tensor([[6.],
            [8.]])
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
    code of ZSCL's authors.

    Reference: Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531.

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
    images. The loss is their sum.

    Reference: ZSCL, arXiv 2303.06628; GIFT ("contrastive distillation", with the texts of the images), arXiv
    2503.04229.

    >>> parts = contrastive_distillation(torch.zeros(2, 3), torch.zeros(2, 3), temperature=1.0)
    >>> {name: round(loss.item(), 4) for name, loss in parts.items()}  # log 3, log 2
    {'image_distillation': 1.0986, 'text_distillation': 0.6931}
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
    """Mean squared errors of image features ``[B, D]`` and of text features ``[P, D]``. The loss is their sum.

    >>> teacher, student = Pairs(torch.zeros(1, 2), torch.zeros(1, 2)), Pairs(torch.ones(1, 2), torch.zeros(1, 2))
    >>> feature_distance(teacher, student)
    {'image_distillation': tensor(1.), 'text_distillation': tensor(0.)}
    """
    return {
        "image_distillation": F.mse_loss(student.image, teacher.image),
        "text_distillation": F.mse_loss(student.text, teacher.text),
    }


def alignment_targets(texts: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Targets ``[B, B]`` of image-text alignment, with rows that sum to 1, from the index of each pair's text ``[B]``.

    Pairs with the same text share the target evenly.

    >>> alignment_targets(torch.tensor([7, 3, 7]))
    tensor([[0.5000, 0.0000, 0.5000],
            [0.0000, 1.0000, 0.0000],
            [0.5000, 0.0000, 0.5000]])
    """
    same = (texts[:, None] == texts[None, :]).to(dtype)
    return same / same.sum(1, keepdim=True)


def alignment(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> dict[str, Tensor]:
    """Cross-entropy of image-text logits ``[B, B]`` with targets ``[B, B]``, in both directions. The loss is their sum.

    Reference: GIFT ("image-text alignment"), arXiv 2503.04229.

    >>> parts = alignment(torch.zeros(2, 2), torch.eye(2))
    >>> {name: round(loss.item(), 4) for name, loss in parts.items()}  # log 2
    {'image_alignment': 0.6931, 'text_alignment': 0.6931}
    """
    return {
        "image_alignment": F.cross_entropy(logits, targets, label_smoothing=label_smoothing),
        "text_alignment": F.cross_entropy(logits.T, targets, label_smoothing=label_smoothing),
    }
