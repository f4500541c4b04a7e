"""MoE-Adapters: experts and routers beside the blocks of a frozen CLIP, and a selector of the router.

This file has training and prediction. The others, from the method down to its formulas:

* ``parts.expert_clip``: how the modules beside the CLIP are made, saved and loaded
* ``parts.adapters``: all blocks; which experts are active, learn, and are frozen (``parts.blocks`` finds the blocks)
* ``parts.experts``: the experts and routers of one block; ``parts.draws``: their gate noise and dropout
* ``parts.selector``: the auto-encoders of the tasks; ``callbacks.selector_training`` trains them
* ``numerics.mixture``, ``numerics.autoencoder``, ``numerics.row_adamw``: the formulas
"""

from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.optim import Optimizer

from callbacks.selector_training import SelectorTraining
from datamodules import CurrentTask
from datamodules.base import Candidates
from datamodules.shard import TestShard
from gift_lightning.clip.model import TEST_LOGIT_SCALE, cosine
from gift_lightning.errors import InputError
from gift_lightning.methods.parts.draws import Draws
from gift_lightning.methods.parts.expert_clip import ExpertCLIP
from gift_lightning.methods.parts.experts import ExpertSettings
from gift_lightning.numerics.autoencoder import PLAIN
from gift_lightning.numerics.row_adamw import RowAdamW
from gift_lightning.seeding import stream_seed


class MoEAdapter(ExpertCLIP):
    """Experts beside every block of both towers are shared by all tasks, and each task has routers of its own.

    loss = CE, of the CLIP with its experts
    block: x = x + attention(x); x = x + MLP(x) + sum_i G_i(x) E_i(x)
    G = softmax over the top k of ``r W_gate + noise * (softplus(r W_noise) + 0.01)``, r the first token

    * CLIP is frozen. Only the activated experts and the routers of the current task learn. After a task the experts
      that it activated most are frozen, in each block.
    * In testing the task of an image is unknown. The selector (DDAS) has an auto-encoder for each task, trained on
      features of its images: the smallest error names the router, for the image and the class prompts. If that error
      is above a threshold, the pre-trained CLIP predicts.
    * With images of pre-training as ``data.replay``, a ``datamodules.Reference`` for instance, one more auto-encoder
      learns them, and where its error is the smallest the pre-trained CLIP predicts. Training steps make no use of
      them: a small ``data.replay.batch_size`` saves the reading.

    Between tasks the experts, all routers and all auto-encoders are stored. For ViT-B/16 a task adds 2.7 MB of routers
    and an auto-encoder of 0.4 MB, or of 35 MB with AlexNet's features, on disk and in memory; a training step is the
    same after any number of tasks. Beyond the authors' code are experts after the blocks of a convolutional tower,
    CLIP's own features for the auto-encoders, and a router for each image; the balance loss, which theirs computes and
    drops, is not computed.

    Reference: Yu et al., "Boosting Continual Learning of Vision-Language Models via Mixture-of-Experts Adapters", CVPR
    2024, arXiv 2403.11549.

    Args:
        experts: E, in each block.
        top_k: k.
        width: units of an expert.
        dropout: share of these units that training leaves out.
        gate_noise: whether the choice of experts is noisy in training.
        frozen_experts: those that a task freezes in each block, if they are not frozen already.
        towers: which have experts.
        routers: of each task, or one for all tasks, which then needs no selector, as in the authors' class-incremental
            code.
        alexnet: file with torchvision's weights of AlexNet, whose features the auto-encoders of the authors are trained
            on; ``null`` for those of the pre-trained CLIP.
        threshold: the largest error of an image of a task. It belongs to the features; ``null``: 0.0655 with AlexNet's,
            as published, and 0.008 with those of the CLIP, which is good for MiniMTIL.
        selector_steps: optimiser steps of a task's auto-encoder.
        reference_steps: of that of reference images.
        selector_lr: first learning rate of all of them.
        selector_width: units between their two layers.
        official_quirks: as the authors' code, on one device, choose one router for all images of a batch
            (``eval_batch_size``; theirs are of 128), by their mean error; and with ``routers: shared`` keep the noise
            in testing.
        kwargs: see ``ContinualCLIP``.
    """

    INDIFFERENT = ExpertCLIP.INDIFFERENT - {"eval_batch_size"}
    """Not even ``eval_batch_size``: with ``official_quirks`` it decides the routers."""

    def __init__(
        self,
        experts: int = 22,
        top_k: int = 2,
        width: int = 64,
        dropout: float = 0.1,
        gate_noise: bool = True,
        frozen_experts: int = 2,
        towers: Literal["both", "image"] = "both",
        routers: Literal["task", "shared"] = "task",
        alexnet: str | None = None,
        threshold: float | None = None,
        selector_steps: int = 300,
        reference_steps: int = 1000,
        selector_lr: float = 0.01,
        selector_width: int = 100,
        official_quirks: bool = False,
        lr: float | dict[str, float] = 1e-3,
        **kwargs: Any,
    ) -> None:
        _check_positive(selector_steps=selector_steps, reference_steps=reference_steps, selector_width=selector_width)
        if not 0 <= frozen_experts <= experts:
            raise InputError(f"`model.frozen_experts` is {frozen_experts}: there are {experts} of `model.experts`.")
        if threshold is not None and threshold <= 0:
            raise InputError(f"`model.threshold` is {threshold}: give a positive number, or null.")
        super().__init__(
            settings=ExpertSettings(experts, top_k, width, dropout, gate_noise),
            image_tower_only=towers == "image",
            has_own_routers=routers == "task",
            selector_width=selector_width,
            alexnet=alexnet,
            lr=lr,
            **kwargs,
        )
        self.replays = self.has_own_routers
        self.frozen_experts, self.official_quirks = frozen_experts, official_quirks
        self.threshold = threshold or (0.008 if alexnet is None else 0.0655)
        self.selector_steps, self.reference_steps, self.selector_lr = selector_steps, reference_steps, selector_lr

    def configure_callbacks(self) -> list[Callback]:
        return [SelectorTraining(self)] if self.has_own_routers else []

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit":
            return
        if self.official_quirks and self.trainer.world_size > 1:
            raise InputError(
                "With `model.official_quirks` batches are those of one device: set `trainer.devices` to 1."
            )
        reference = self.sequence.replay
        if reference is not None and (not self.sequence.replays_in(0) or isinstance(reference, CurrentTask)):
            raise InputError(
                f"{type(self).__name__} learns `data.replay` before the first task: name images like those of"
                " pre-training, as datamodules.Reference, or none."
            )

    # --- training -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        with self.moe.routed("current", self.draws(batch_idx)):
            return super().training_step(batch, batch_idx)

    def draws(self, batch_idx: int) -> Draws:
        """Gate noise and dropout of a step, for this rank's images."""
        seed = stream_seed(self.sequence.seed, "adapters", self.trainer.global_step)
        return Draws(seed, *self.sequence.place(batch_idx))

    def complete_gradient(self, optimizer: Optimizer) -> None:
        activations = self.trainer.strategy.reduce(self.moe.step_activations.to(self.device), reduce_op="sum")
        assert isinstance(activations, Tensor) and isinstance(optimizer, RowAdamW)
        optimizer.rows = self.moe.learning_rows(activations)

    def on_task_start(self, task: int) -> None:
        if task == 0:
            self.learned = 0
        else:  # not when a task ends: the optimiser in its checkpoint has the experts that the task could move
            self.moe.freeze(self.frozen_experts)
        if self.has_own_routers:
            self.moe.begin_router()

    def on_task_end(self, task: int) -> None:
        self.moe.finish_router(self.router)
        self.learned = task + 1

    # --- prediction ---------------------------------------------------------------------------------------------------

    def evaluate(self, task: Candidates, shard: TestShard) -> Tensor:
        """Each image by its own router; the class prompts are encoded once for each router that occurs."""
        if not self.learned or not len(shard):
            return super().evaluate(task, shard)
        routes, order, logits = self.routes(shard), [], []
        for route in routes.unique().tolist():
            with self.moe.routed(None if route == PLAIN else route, self.test_draws()):
                order.append((routes == route).nonzero().flatten())
                logits.append(TEST_LOGIT_SCALE * cosine(self.encode_shard(shard, order[-1]), self.classifier(task)))
        return torch.cat(logits)[torch.cat(order).argsort()]

    def routes(self, shard: TestShard) -> Tensor:
        """The router of each image of a shard, ``[n]``; ``PLAIN`` for the pre-trained CLIP."""
        if self.selector is None:
            return torch.zeros(len(shard), dtype=torch.long)
        batches = torch.arange(len(shard)).split(self.eval_batch_size)
        features = (self.selector_features(shard[rows].to(self.clip.logit_scale.dtype)) for rows in batches)
        return self.selector.routes(features, self.learned, self.threshold, by_batch=self.official_quirks)

    def test_draws(self) -> Draws | None:
        """The gate noise of the authors' class-incremental code, which is on in testing; else ``None``."""
        noisy = self.official_quirks and not self.has_own_routers
        return Draws(stream_seed("test", self.learned), 0, self.eval_batch_size) if noisy else None


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise InputError(f"`model.{name}` is {value}: give at least 1.")
