"""ConDU: a model for each task, fused into one and brought back."""

from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from torch import Tensor

from callbacks.prototypes import Prototypes
from datamodules.base import Task
from datamodules.shard import TestShard
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
        self.prototypes: list[Tensor] = []

    def configure_callbacks(self) -> list[Callback]:
        return [Prototypes()]

    # --- what is learned, and what is kept ----------------------------------------------------------------------------

    def on_task_start(self, task: int) -> None:
        self.initial.copy_to(self.clip.model)

    def on_task_end(self, task: int) -> None:
        """Fuse; from here on the CLIP is the pre-trained model again, and any expert while it is asked."""
        start, trained = (dict(model.named_parameters()) for model in (self.initial.module, self.clip.model))
        earlier = None if self.fusion is None or task == 0 else self.fusion.to(self.device)
        self.fusion = fuse(earlier, delta_of(start, trained))
        self.initial.copy_to(self.clip.model)

    def knowledge(self) -> dict[str, Tensor]:
        if self.fusion is None:
            return {}
        kept = {f"unified.{name}": tensor for name, tensor in self.fusion.unified.items()}
        kept |= {f"mask.{task}": mask for task, mask in enumerate(self.fusion.masks)}
        kept |= {f"prototypes.{task}": own for task, own in enumerate(self.prototypes)}
        return {**kept, "rescalers": torch.tensor(self.fusion.rescalers, dtype=torch.float64)}

    def load_knowledge(self, kept: dict[str, Tensor]) -> None:
        if not kept:
            return
        names = [name for name, _ in self.initial.module.named_parameters()]
        try:
            unified, rescalers = {name: kept[f"unified.{name}"] for name in names}, kept["rescalers"].tolist()
            self.fusion = Fusion(unified, [kept[f"mask.{task}"] for task in range(len(rescalers))], rescalers)
            self.prototypes = [kept[f"prototypes.{task}"] for task in range(len(rescalers))]
        except KeyError as error:
            raise InputError(f"What the run kept is not of this ConDU: {error} is missing.") from error

    # --- prediction ---------------------------------------------------------------------------------------------------

    def evaluate(self, task: Task, shard: TestShard) -> Tensor:
        learned = 0 if self.fusion is None else len(self.fusion)
        known = self.sequence.names[:learned] if self.task_id == "known" and self._trainer is not None else []
        if self.fusion is not None:
            self.fusion = self.fusion.to(self.device)
        if task.name in known:
            self.become_expert(known.index(task.name))
            logits = super().evaluate(task, shard)
        elif learned:
            logits = self.aggregated(task, shard)
        else:
            return super().evaluate(task, shard)
        self.initial.copy_to(self.clip.model)
        return logits

    def aggregated(self, task: Task, shard: TestShard) -> Tensor:
        """Logits ``[n, C]`` of the pre-trained model and of each image's nearest experts, averaged.

        One model is in memory at a time, and an expert sees only the images that chose it.
        """

        def expert(place: int, rows: Tensor) -> Tensor:
            self.become_expert(place)
            return self.logits(task, self.features(shard, rows))

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
