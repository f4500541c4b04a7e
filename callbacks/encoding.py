"""Features of whole sets of images, and of the class prompts of a step, by all ranks together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning.pytorch import Trainer
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_gather

from callbacks.method import Method
from callbacks.task_callback import sequence_of
from datamodules.base import ImageSet
from datamodules.ranks import in_step
from datamodules.shard import LazyShard, ReplayImages
from gift_lightning.clip.model import CLIP

MIN_PROMPTS_PER_RANK = 8
"""Smallest share of the class prompts of a step for which the ranks divide them: a choice, not a measurement."""


@torch.no_grad()
def encode_images(
    trainer: Trainer, clip: CLIP, images: ReplayImages, batch_size: int, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Unit features ``[n, D]`` and labels ``[n]`` of images of a set, in the order asked for and the same on all ranks.

    Every rank encodes a share: of ``W`` ranks, each ``batch_size`` of the next ``W * batch_size`` images at a time.

    Args:
        trainer: of the run.
        clip: whose features.
        images: the set, the same on every rank.
        batch_size: images in one forward pass.
        rows: numbers ``[n]`` of the images in the set, the same on every rank; ``None`` for all, in its order.
    """
    rows = torch.arange(len(images)) if rows is None else rows
    # with fewer images than ranks, a rank encodes one of another's, to learn how wide features are
    share = torch.arange(min(trainer.global_rank, len(rows) - 1), len(rows), trainer.world_size)
    device, batches = trainer.strategy.root_device, []
    with trainer.precision_plugin.val_step_context():
        for batch, labels in in_step(trainer, images.batches(rows[share], batch_size)):
            batches.append((clip.encode_image(batch.to(device, clip.logit_scale.dtype)), labels))
    features = torch.cat([of_batch for of_batch, _ in batches])
    encoded = features.new_zeros(len(rows), features.shape[1])
    all_labels = torch.zeros(len(rows), dtype=torch.long, device=features.device)
    if trainer.global_rank < len(rows):
        share = share.to(features.device)
        encoded[share], all_labels[share] = features, torch.cat([labels for _, labels in batches]).to(features.device)
    return sum_over_ranks(trainer, encoded), sum_over_ranks(trainer, all_labels)


@torch.no_grad()
def likeliest_texts(
    trainer: Trainer, clip: CLIP, images: ReplayImages, rows: Sequence[int], texts: Sequence[str], most: int = 3
) -> list[list[tuple[str, float]]]:
    """The ``most`` likeliest of ``texts`` for each of some images, with probabilities in percent; by one rank alone.

    Args:
        trainer: of the run.
        clip: frozen, which says so.
        images: a set.
        rows: numbers of the images in the set, few enough for one forward pass.
        texts: at least one, distinct.
        most: texts for each image.
    """
    with trainer.precision_plugin.val_step_context():
        (batch, _), *_ = images.batches(torch.tensor(rows), len(rows))
        features = clip.encode_image(batch.to(trainer.strategy.root_device, clip.logit_scale.dtype))
        logits = clip.logit_scale * features @ clip.encode_texts(texts).T
    numbers = logits.topk(min(most, len(texts))).indices  # of logits: small probabilities are all 0
    probabilities = 100 * logits.float().softmax(1).gather(1, numbers)
    return [
        [(texts[number], value) for number, value in zip(*row, strict=True)]
        for row in zip(numbers.tolist(), probabilities.tolist(), strict=True)
    ]


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Within it all submodules are as in testing; after it each has the mode that it had."""
    modes = {submodule: submodule.training for submodule in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for submodule, mode in modes.items():
            submodule.training = mode


def encode_train_set(trainer: Trainer, method: Method, train_set: ImageSet) -> tuple[Tensor, Tensor]:
    """Unit features ``[N, D]`` and labels ``[N]`` of training images as in testing, by the method's CLIP; see above.

    Args:
        trainer: of the run.
        method: whose CLIP encodes them, in evaluation mode.
        train_set: the same on every rank.
    """
    clip = method.clip
    workers, device = sequence_of(trainer).num_workers, trainer.strategy.root_device
    images = LazyShard(train_set, clip.test_geometry, clip.normalize, workers, device)
    with evaluation_mode(method):
        return encode_images(trainer, clip, images, method.eval_batch_size)


def encode_shared(encode: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Features ``[n, D]`` of ``n`` prompts, the same on all ranks and for gradients; all ranks have to call it.

    Every rank encodes a share, and gets the sum of the gradients that all ranks have for it, so that the mean of the
    weights' gradients over ranks, which DDP takes, is that of ranks which encode all prompts.

    Args:
        encode: from token ids ``[m, L]`` to features ``[m, D]``, each row by itself.
        tokens: ids ``[n, L]``, equal on all ranks.
    """
    ranks = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    share = -(-len(tokens) // ranks)
    if ranks == 1 or share < MIN_PROMPTS_PER_RANK:
        return encode(tokens)
    first = distributed.get_rank() * share
    own = torch.arange(first, first + share, device=tokens.device).clamp(max=len(tokens) - 1)  # shares of one size
    return torch.cat(all_gather(encode(tokens[own]).contiguous()))[: len(tokens)]


def sum_over_ranks(trainer: Trainer, tensor: Tensor) -> Tensor:
    """The sum of the tensors ``[...]`` of all ranks, on each of them; all ranks have to call it."""
    total = trainer.strategy.reduce(tensor, reduce_op="sum")
    assert isinstance(total, Tensor)
    return total
