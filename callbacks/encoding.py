"""Features of whole sets of images, by all ranks together."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from callbacks.task_callback import Module, Trainer
from datamodules.ranks import in_step
from datamodules.shard import ReplayImages


@torch.no_grad()
def encode_images(trainer: Trainer, module: Module, clip: Module, images: ReplayImages) -> tuple[Tensor, Tensor]:
    """Unit features ``[N, D]`` and labels ``[N]`` of a set of images, in its order and the same on all ranks.

    Every rank encodes a share.

    Args:
        trainer: of the run.
        module: the method, which says how many images go through a tower at a time.
        clip: whose features.
        images: the set, known to every rank.
    """
    # with fewer images than ranks, a rank encodes one of another's, to know how wide features are
    share = torch.arange(min(trainer.global_rank, len(images) - 1), len(images), trainer.world_size)
    parts = []
    with trainer.precision_plugin.val_step_context():
        for batch, labels in in_step(trainer, images.batches(share, module.eval_batch_size)):
            parts.append((clip.encode_image(batch.to(module.device, clip.logit_scale.dtype)), labels))
    features = torch.cat([part for part, _ in parts])
    encoded = features.new_zeros(len(images), features.shape[1])
    all_labels = torch.zeros(len(images), dtype=torch.long, device=features.device)
    if trainer.global_rank < len(images):
        share = share.to(features.device)
        encoded[share], all_labels[share] = features, torch.cat([labels for _, labels in parts]).to(features.device)
    reduce = trainer.strategy.reduce
    return reduce(encoded, reduce_op="sum"), reduce(all_labels, reduce_op="sum")


@contextmanager
def evaluation_mode(module: Module) -> Iterator[None]:
    """Within it all parts of a module are as in testing; after it each is as it was."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
