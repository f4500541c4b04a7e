"""ConDU: a model for each task, fused into one and brought back."""

from functools import cached_property
from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from torch import Tensor

from callbacks.prototypes import Prototypes
from datamodules.base import Task
from datamodules.shard import TestShard
from gift_lightning.checkpoint import hash_of
from gift_lightning.clip import TEST_LOGIT_SCALE, cosine
from gift_lightning.errors import InputError
from gift_lightning.fusion import Decoupled, Fusion, delta_of, fuse
from gift_lightning.methods.base import ContinualCLIP, FrozenCopy
from gift_lightning.prototypes import aggregate, nearest_tasks, task_similarities


class ConDU(ContinualCLIP):
    """Each task is learned from the pre-trained weights; what it changed is fused with what the others did.

    loss = CE, from theta_0 in every task; delta_t = theta_t - theta_0

    * Fusion, after a task: the earlier deltas are decoupled and unified with the new one. One unified delta is kept,
      and for each task its trigger: a mask of one bit for each parameter, and a rescaler.
    * The expert of task t is ``theta_0 + unified * mask_t * rescaler_t``. Where the task of an image is known and has
      been learned, its expert predicts.
    * Otherwise the pre-trained model does, and the k experts whose prototypes are nearest to the image, by the mean of
      their logits. A prototype is the mean of a class's images and prompts, as the pre-trained model sees them.

    Between tasks the initial model, the unified delta, the triggers and the prototypes are kept.

    Reference: Gao et al., "Enhanced Continual Learning of Vision-Language Models with Model Fusion", arXiv 2503.10705.

    Args:
        task_id: whether it is known in testing which task an image belongs to.
        experts: k, how many of them join the pre-trained model.
        kwargs: see ``ContinualCLIP``.
    """

    def __init__(self, task_id: Literal["known", "unknown"] = "known", experts: int = 4, **kwargs: Any) -> None:
        if experts < 1:
            raise InputError(f"model.experts is {experts}: give at least 1.")
        super().__init__(**kwargs)
        self.task_id, self.experts = task_id, experts
        self.initial = FrozenCopy(self.clip.model, is_stored=True)
        self.fusion: Fusion | None = None
        self.learned: list[str] = []
        self.prototypes: list[Tensor] = []

    def configure_callbacks(self) -> list[Callback]:
        return [Prototypes()]

    # --- what is learned, and what is kept ----------------------------------------------------------------------------

    def on_task_start(self, task: int) -> None:
        if task == 0:
            self.load_knowledge({})
        elif self.fusion is not None:
            self.fusion = self.fusion.to(torch.device("cpu"))  # nothing reads it while a task is learned
        self.become_initial()

    def on_task_end(self, task: int) -> None:
        """Fuse; from here on the CLIP is the pre-trained model again, and any expert while it is asked."""
        start, trained = (dict(model.named_parameters()) for model in (self.initial.module, self.clip.model))
        delta, name = delta_of(start, trained), self.sequence.names[task]
        if not all(tensor.isfinite().all() for tensor in delta.values()):
            raise InputError(
                f"The weights are not finite after task '{name}': lower model.lr, or look for broken images."
            )
        self.fusion = fuse(None if self.fusion is None else self.fusion.to(self.device), delta)
        self.learned.append(name)
        assert len(self.fusion) == len(self.learned) == task + 1
        self.become_initial()

    def knowledge(self) -> dict[str, Tensor]:
        if self.fusion is None:
            return {}
        kept = {f"unified.{name}": tensor for name, tensor in self.fusion.unified.items()}
        for task, name in enumerate(self.learned):
            kept[f"mask.{task}.{name}"] = self.fusion.masks[task]
            kept[f"prototypes.{task}"] = self.prototypes[task]
        kept["rescalers"] = torch.tensor(self.fusion.rescalers, dtype=torch.float64)
        return {**kept, "start": self.start}

    @cached_property
    def start(self) -> Tensor:
        """What is kept belongs to these weights."""
        return hash_of(self.initial.parameters())

    def load_knowledge(self, kept: dict[str, Tensor]) -> None:
        self.fusion, self.learned, self.prototypes = None, [], []
        if not kept:
            return
        weights = dict(self.initial.module.named_parameters())
        masks = sorted((key for key in kept if key.startswith("mask.")), key=lambda key: int(key.split(".")[1]))
        try:
            unified = {name: kept[f"unified.{name}"] for name in weights}
            belongs = torch.equal(kept["start"], self.start)
            rescalers = kept["rescalers"].tolist()
            self.prototypes = [kept[f"prototypes.{task}"] for task in range(len(masks))]
        except KeyError as error:
            raise InputError(f"What the run kept is not of a ConDU with this CLIP: {error} is missing.") from error
        if not belongs or len(rescalers) != len(masks):
            raise InputError("What the run kept belongs to another CLIP: give the model.clip with which it began.")
        self.fusion = Fusion(unified, [kept[key] for key in masks], rescalers)
        self.learned = [key.split(".", 2)[2] for key in masks]

    # --- prediction ---------------------------------------------------------------------------------------------------

    def evaluate(self, task: Task, shard: TestShard) -> Tensor:
        if self.fusion is None or not len(shard):
            return super().evaluate(task, shard)
        self.fusion = self.fusion.to(self.device)
        try:
            if self.task_id == "unknown" or task.name not in self.learned:
                return self.aggregated(task, shard)
            self.become_expert(self.learned.index(task.name))
            return super().evaluate(task, shard)
        finally:
            self.become_initial()

    def aggregated(self, task: Task, shard: TestShard) -> Tensor:
        """Logits ``[n, C]`` of the pre-trained model and of each image's nearest experts, averaged.

        One model is in memory at a time, and an expert sees only the images that chose it.
        """

        def expert(place: int, rows: Tensor) -> Tensor:
            self.become_expert(place)
            return self.logits(task, self.features(shard, rows))

        self.become_initial()
        features = self.features(shard, torch.arange(len(shard)))
        prototypes = [own.to(features) for own in self.prototypes]
        chosen = nearest_tasks(task_similarities(features, prototypes), self.experts)
        return aggregate(self.logits(task, features), expert, chosen)

    def features(self, shard: TestShard, rows: Tensor) -> Tensor:
        """Unit features ``[m, D]`` of the chosen images, by the CLIP as it is."""
        parts = [self.encode_shard(shard, part) for part in rows.cpu().split(self.eval_batch_size)]
        return torch.cat(parts)

    def logits(self, task: Task, features: Tensor) -> Tensor:
        return TEST_LOGIT_SCALE * cosine(features, self.clip.classifier(task.class_names, task.templates))

    @torch.no_grad()
    def become_expert(self, place: int) -> None:
        """Give the CLIP the weights of a task's expert."""
        assert self.fusion is not None
        delta, start = Decoupled(self.fusion, place), dict(self.initial.module.named_parameters())
        for name, weight in self.clip.model.named_parameters():
            weight.copy_(start[name] + delta[name])
        torch.clear_autocast_cache()  # it may hold these weights as they were, in half precision

    def become_initial(self) -> None:
        """Give the CLIP its pre-trained weights."""
        self.initial.copy_to(self.clip.model)
        torch.clear_autocast_cache()
