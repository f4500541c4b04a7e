"""Herding: the choice of exemplars whose mean is closest to that of all images."""

import torch
from torch import Tensor


@torch.no_grad()
def herding(features: Tensor, count: int) -> list[int]:
    """Indices of ``count`` of the features ``[N, D]``, or all, chosen one after the other.

    Each choice brings the mean of the chosen features closest to the mean of all.

    Reference: Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning" (algorithm 4), CVPR 2017,
    arXiv 1611.07725.

    >>> herding(torch.tensor([[0.0], [1.0], [5.0]]), 2)
    [1, 2]
    """
    mean, total = features.mean(0), torch.zeros_like(features[0])
    unchosen, chosen = torch.ones(len(features), dtype=torch.bool, device=features.device), list[int]()
    for size in range(1, min(count, len(features)) + 1):
        distances = (mean - (total + features) / size).norm(dim=1)
        best = int(distances.masked_fill(~unchosen, torch.inf).argmin())
        total = total + features[best]
        unchosen[best] = False
        chosen.append(best)
    return chosen


def herding_by_class(features: Tensor, labels: Tensor, count: int) -> list[int]:
    """Indices of ``count`` features ``[N, D]`` with labels ``[N]``, chosen by herding within each class.

    In turns: the first choice of each class, then the second of each, and within a turn by their distance from the mean
    of their class. So any beginning of the list has as many of each class, give or take one.

    >>> herding_by_class(torch.tensor([[0.0], [1.0], [5.0], [7.0], [8.0]]), torch.tensor([0, 0, 0, 1, 1]), 3)
    [3, 1, 4]
    """
    members = [torch.nonzero(labels == label).flatten() for label in labels.unique()]
    count = min(count, len(features))
    each = -(-count // len(members))
    while sum(min(each, len(member)) for member in members) < count:
        each += 1  # some classes are smaller than their share
    ranked = [member[herding(features[member], each)] for member in members]
    turns: list[int] = []
    for turn in range(each):
        rows = [
            (features[order[turn]] - features[member].mean(0), order[turn])
            for order, member in zip(ranked, members, strict=True)
            if turn < len(order)
        ]
        nearest = torch.stack([difference for difference, _ in rows]).norm(dim=1).argsort(stable=True)
        turns += [int(rows[place][1]) for place in nearest.tolist()]
    return turns[:count]
