"""MoE-Adapters: experts and routers beside the blocks of a frozen CLIP, and a selector of the router."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from callbacks.selector_training import SelectorTraining
from datamodules import CurrentTask
from datamodules.base import Candidates
from datamodules.shard import TestShard
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import TEST_LOGIT_SCALE, cosine
from gift_lightning.errors import InputError
from gift_lightning.methods.base import ContinualCLIP
from gift_lightning.methods.parts.adapters import Adapters, Draws, ExpertSettings
from gift_lightning.methods.parts.alexnet import alexnet_file, load_alexnet
from gift_lightning.methods.parts.selector import Selector
from gift_lightning.numerics.autoencoder import PLAIN, choose_routes, squashed
from gift_lightning.seeding import stream_seed
from gift_lightning.sources import Source
from gift_lightning.tensors import hash_of


class MoEAdapter(ContinualCLIP):
    """Experts beside every block of both towers are shared by all tasks, and each task has routers of its own.

    loss = CE, of the CLIP with its experts
    block: x = x + attention(x); x = x + MLP(x) + sum_i G_i(x) E_i(x)
    G = softmax over the top k of ``r w_gate + noise * (softplus(r w_noise) + 0.01)``, r the first token

    * CLIP is frozen. Only experts and the routers of the current task learn; an expert that no sample of a step chose
      is left as it is. After a task the experts that it chose most are frozen, in each block.
    * In testing nobody says which task an image is from. An auto-encoder for each task, trained on features of its
      images, gives back what it knows: the smallest error names the router, for the image and the class prompts. If
      that error is too large, the pre-trained CLIP predicts.
    * With images of pre-training as ``data.replay``, a ``datamodules.Reference`` for instance, one more auto-encoder
      learns them, and where its error is the smallest the pre-trained CLIP predicts. Training steps make no use of
      them: a small ``data.replay.batch_size`` saves the reading.

    Between tasks the experts, all routers and all auto-encoders are kept. Beyond the authors' code are experts after
    the blocks of a convolutional tower, CLIP's own features for the auto-encoders, and a route for each image; the
    balance of the experts, which their code computes and drops, is not computed.

    Reference: Yu et al., "Boosting Continual Learning of Vision-Language Models via Mixture-of-Experts Adapters", CVPR
    2024, arXiv 2403.11549.

    Args:
        experts: E, in each block.
        top_k: k.
        width: units of an expert.
        dropout: share of these units that training leaves out.
        noise: whether the choice is noisy in training.
        frozen_experts: those that a task freezes in each block, if they are not frozen already.
        towers: which have experts.
        routers: of each task, or one for all tasks, which then needs no auto-encoders, as in the authors'
            class-incremental code.
        alexnet: file with torchvision's weights of AlexNet, whose features the auto-encoders of the authors are trained
            on; ``null`` for those of the pre-trained CLIP.
        threshold: the largest error with which an image is taken for one of a task. It belongs to the features;
            ``null``: 0.0655 with AlexNet's, as published, and 0.008 with those of the CLIP, which is good for MiniMTIL.
        selector_steps: optimiser steps of a task's auto-encoder.
        reference_steps: of that of reference images.
        selector_lr: first learning rate of all of them.
        code: entries between their two layers.
        official_quirks: as the authors' code, on one device, choose one router for all images of a batch
            (``eval_batch_size``; theirs are of 128), by their mean error; and with ``routers: shared`` keep the noise
            in testing.
        kwargs: see ``ContinualCLIP``.
    """

    not_in_knowledge = ("adapters.counts", "adapters.listed", "adapters.used")  # which experts are frozen

    INDIFFERENT = frozenset()
    """Not even ``eval_batch_size``: with ``official_quirks`` it decides the routes."""

    def __init__(
        self,
        experts: int = 22,
        top_k: int = 2,
        width: int = 64,
        dropout: float = 0.1,
        noise: bool = True,
        frozen_experts: int = 2,
        towers: Literal["both", "image"] = "both",
        routers: Literal["task", "shared"] = "task",
        alexnet: str | None = None,
        threshold: float | None = None,
        selector_steps: int = 300,
        reference_steps: int = 1000,
        selector_lr: float = 0.01,
        code: int = 100,
        official_quirks: bool = False,
        lr: float | dict[str, float] = 1e-3,
        **kwargs: Any,
    ) -> None:
        for name, value in {"selector_steps": selector_steps, "reference_steps": reference_steps, "code": code}.items():
            if value < 1:
                raise InputError(f"`model.{name}` is {value}: give at least 1.")
        if not 0 <= frozen_experts <= experts:
            raise InputError(f"`model.frozen_experts` is {frozen_experts}: there are {experts} of `model.experts`.")
        if threshold is not None and threshold <= 0:
            raise InputError(f"`model.threshold` is {threshold}: give a positive number, or null.")
        settings = ExpertSettings(experts, top_k, width, dropout, noise)
        super().__init__(lr=lr, **kwargs)
        self.settings, self.frozen_experts = settings, frozen_experts
        self.has_own_routers = self.replays = routers == "task"
        self.towers = ["image", "text"] if towers == "both" else ["image"]
        self.threshold = threshold or (0.008 if alexnet is None else 0.0655)
        self.code, self.official_quirks = code, official_quirks
        self.selector_steps, self.reference_steps, self.selector_lr = selector_steps, reference_steps, selector_lr
        self.clip.requires_grad_(False)
        self.alexnet = None if alexnet is None else FrozenCopy(load_alexnet(alexnet))
        seen_by = [*self.clip.model.parameters(), *(self.alexnet.parameters() if self.alexnet else [])]
        self.start_hash = hash_of(seen_by)  # here: later they may be in another precision
        self.adapters: Adapters | None = None
        self.selector: Selector | None = None
        self.learned = 0

    @classmethod
    def sources(cls, arguments: Mapping[str, Any]) -> list[Source]:
        alexnet = arguments.get("alexnet")
        return [*super().sources(arguments), *([alexnet_file(alexnet)] if alexnet else [])]

    def configure_callbacks(self) -> list[Callback]:
        return [SelectorTraining()] if self.has_own_routers else []

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

    def build(self, tasks: int, has_reference: bool, seed: int = 0) -> None:
        """Experts, routers and auto-encoders: all from the start, for DDP and optimisers take no later parts."""
        if self.adapters is not None:
            self.adapters.detach()
        model, routers = self.clip.model, tasks if self.has_own_routers else 1
        self.adapters = Adapters(model, self.towers, self.settings, routers, seed).to(model.logit_scale)
        if self.has_own_routers:
            seeds = [stream_seed(seed, "selector", task) for task in range(tasks)]
            reference = stream_seed(seed, "selector", "reference") if has_reference else None
            image = torch.zeros(1, 3, *model.visual.image_size).to(model.logit_scale)
            width = self.selector_features(image).shape[1]
            self.selector = Selector(width, self.code, seeds, reference).to(image)

    # --- what is learned, and what is kept ----------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        with self.parts.routed(self.router, self.draws(batch_idx)):
            return super().training_step(batch, batch_idx)

    def draws(self, batch_idx: int) -> Draws:
        """Noise and dropout of a step, for this rank's part of it."""
        seed = stream_seed(self.sequence.seed, "adapters", self.trainer.global_step)
        return Draws(seed, *self.sequence.place(batch_idx))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        used = self.trainer.strategy.reduce(self.parts.used.to(self.device), reduce_op="sum")
        self.parts.settle(used, self.router)  # type: ignore[arg-type]

    def trained_parameters(self) -> list[Parameter]:
        return self.parts.trained(self.router)

    def learned_parameters(self) -> list[Parameter]:
        own = [] if self.selector is None else list(self.selector.tasks[self.task].parameters())
        return [*self.trained_parameters(), *own]

    def stored_copies(self) -> list[FrozenCopy]:
        return [] if self.alexnet is None else [self.alexnet]

    def on_task_start(self, task: int) -> None:
        if task == 0:
            self.learned = 0
        else:  # and not when a task ends, whose optimiser is in the checkpoint with all that it trained
            self.parts.freeze(self.frozen_experts)

    def on_task_end(self, task: int) -> None:
        self.learned = task + 1

    def knowledge(self) -> dict[str, Tensor]:
        if not self.learned:
            return {}
        numbers = {"learned": torch.tensor(self.learned), "start": self.start_hash}
        return {**self.kept(), **numbers}

    def kept(self) -> dict[str, Tensor]:
        """Experts, and the routers and auto-encoders of the tasks learned."""
        kept = {f"adapters.{name}": weight for name, weight in self.parts.kept(self.learned).items()}
        if self.selector is not None:
            kept |= {f"selector.{name}": weight for name, weight in self.selector.kept(self.learned).items()}
        return kept

    def load_knowledge(self, kept: dict[str, Tensor]) -> None:
        self.learned = 0
        if not kept:
            return
        if not {"learned", "start"} <= kept.keys():
            raise InputError("What the run kept is not of a MoEAdapter: name the run's method.")
        if not torch.equal(kept["start"], self.start_hash):
            raise InputError("What the run kept belongs to another CLIP: give the `model.clip` with which it began.")
        self.learned = int(kept["learned"])
        if self.adapters is None:
            self.build(self.learned, any(name.startswith("selector.reference.") for name in kept))
        ours = self.kept()
        shapes = [{name: weights[name].shape for name in weights if "." in name} for weights in (ours, kept)]
        if shapes[0] != shapes[1]:
            raise InputError("What the run kept is not of a MoEAdapter with these settings: give those of the run.")
        with torch.no_grad():
            for name, weight in ours.items():
                weight.copy_(kept[name])

    @property
    def parts(self) -> Adapters:
        """The experts and routers, which are there as soon as the number of tasks is known."""
        assert self.adapters is not None
        return self.adapters

    @property
    def router(self) -> int:
        """Number of the current task's routers."""
        return self.task if self.has_own_routers else 0

    # --- prediction ---------------------------------------------------------------------------------------------------

    def evaluate(self, task: Candidates, shard: TestShard) -> Tensor:
        """Each image by its own route; the class prompts are encoded once for each route that occurs."""
        if not self.learned or not len(shard):
            return super().evaluate(task, shard)
        routes = self.routes(shard)
        order, logits = [], []
        for route in routes.unique().tolist():
            with self.parts.routed(None if route == PLAIN else route, self.test_draws()):
                classifier = self.clip.classifier(task.class_prompts())
                for rows in (routes == route).nonzero().flatten().split(self.eval_batch_size):
                    order.append(rows)
                    logits.append(TEST_LOGIT_SCALE * cosine(self.encode_shard(shard, rows), classifier))
        return torch.cat(logits)[torch.cat(order).argsort()]

    def routes(self, shard: TestShard) -> Tensor:
        """The router of each image of a shard, ``[n]``; ``PLAIN`` for the pre-trained CLIP."""
        if self.selector is None:
            return torch.zeros(len(shard), dtype=torch.long)
        parts = []
        for rows in torch.arange(len(shard)).split(self.eval_batch_size):
            features = self.selector_features(shard[rows].to(self.clip.logit_scale.dtype))
            errors, reference = self.selector.errors(features, self.learned)
            if self.official_quirks:
                errors = errors.mean(0).expand_as(errors)
                reference = None if reference is None else reference.mean().expand_as(reference)
            parts.append(choose_routes(errors, self.threshold, reference))
        return torch.cat(parts).cpu()

    def test_draws(self) -> Draws | None:
        """None, but for the noise of the authors' class-incremental code."""
        quirk = self.official_quirks and not self.has_own_routers
        return Draws(stream_seed("test", self.learned), 0, self.eval_batch_size) if quirk else None

    @torch.no_grad()
    def selector_features(self, images: Tensor) -> Tensor:
        """What the auto-encoders learn of normalised images, ``[n, F]`` between 0 and 1."""
        if self.alexnet is not None:
            features = self.alexnet.module(images).flatten(1)
            return (features if features.dtype == torch.float64 else features.float()).sigmoid()
        with self.parts.routed(None):
            return squashed(self.clip.encode_image(images))
