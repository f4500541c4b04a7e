"""ConDU: the models of all tasks, unified into one delta and decoupled into experts."""

from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from torch import Generator, Tensor
from torch.func import functional_call

from callbacks.prototypes import Prototypes
from datamodules.base import Candidates
from datamodules.shard import TestShard
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import TEST_LOGIT_SCALE, cosine
from gift_lightning.errors import InputError
from gift_lightning.methods.base import ContinualCLIP
from gift_lightning.methods.parts.fused_tasks import FusedTasks
from gift_lightning.numerics.fusion import Decoupled, Fusion, delta_of, fuse, write_expert_
from gift_lightning.numerics.low_rank import LoRA, LowRank
from gift_lightning.numerics.prototypes import aggregate, nearest_tasks, task_similarities
from gift_lightning.seeding import stream_seed
from gift_lightning.tensors import hash_of


class ConDU(ContinualCLIP):
    """Each task is learned from the pre-trained weights, and its delta is unified with those of the other tasks.

    loss = CE, from theta_0 in every task; delta_t = theta_t - theta_0

    * All weights learn, or with ``lora`` the low-rank matrices whose products are then delta_t (``LowRank`` says which
      weights have them).
    * Fusion, after a task: the earlier deltas are decoupled and unified with the new one. One unified delta is stored,
      and for each task its trigger: a mask of one bit for each parameter, and a rescaler.
    * The expert of task t is ``theta_0 + unified * mask_t * rescaler_t``. Where the task of an image is given and has
      been learned, its expert predicts.
    * Otherwise the pre-trained model does, and the k experts whose prototypes are nearest to the image, by the mean of
      their logits. A prototype is the mean of a class's images and prompts, as the pre-trained model sees them.

    Between tasks the initial model, the unified delta, the triggers and the prototypes are stored. Beside the initial
    model one expert is in memory at a time; delta and triggers lie in that of the host, and reach a GPU in small parts.

    Reference: Gao et al., "Enhanced Continual Learning of Vision-Language Models with Model Fusion", arXiv 2503.10705.

    Args:
        task_id: whether it is known in testing which task an image belongs to.
        experts: k, how many of them join the pre-trained model.
        weighting: of an expert's logits in the mean: 1, as of the pre-trained model's ("equal", as in the authors'
            code), or the similarity of the image to the expert's nearest prototype ("similarity").
        prototype_images: training images as in testing, or augmented as in training (as in the authors' code).
        lora: low-rank matrices learn instead of the weights.
        kwargs: see ``ContinualCLIP``.
    """

    not_in_knowledge = ("lora",)  # its products are, as parts of the unified delta

    def __init__(
        self,
        task_id: Literal["known", "unknown"] = "known",
        experts: int = 4,
        weighting: Literal["equal", "similarity"] = "equal",
        prototype_images: Literal["test", "augmented"] = "test",
        lora: LoRA | None = None,
        **kwargs: Any,
    ) -> None:
        if experts < 1:
            raise InputError(f"`model.experts` is {experts}: give at least 1.")
        if lora is not None and kwargs.get("activation_checkpointing"):
            raise InputError(
                "`model.activation_checkpointing` would compute blocks again without `model.lora`: remove one of both."
            )
        super().__init__(**kwargs)
        self.task_id, self.experts, self.weighting = task_id, experts, weighting
        self.prototype_images = prototype_images
        self.initial = FrozenCopy(self.clip.model)  # between tasks the CLIP is the same
        self.start_hash = hash_of(self.initial.parameters())  # here: later they may be in another precision
        self.lora = LowRank(self.clip.model, lora) if lora is not None else None
        if self.lora is not None:
            self.clip.requires_grad_(False)
        self.fusion: Fusion | None = None
        self.learned: list[str] = []
        self.prototypes: list[Tensor] = []

    def configure_callbacks(self) -> list[Callback]:
        return [Prototypes(self, augmented=self.prototype_images == "augmented")]

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if self.task_id == "known" and self.sequence.label_space != "task":
            raise InputError(
                f"With `data.label_space` {self.sequence.label_space} the task of an image is not given: set"
                " `model.task_id` to unknown."
            )

    def encode(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        if self.lora is None:
            return super().encode(images, tokens)
        weights = dict(self.clip.model.named_parameters())
        adapted = {f"model.{name}": weights[name] + addition for name, addition in self.lora().items()}
        features: tuple[Tensor, Tensor] = functional_call(self.clip, adapted, (images, tokens))
        return features

    # --- training and fusion ------------------------------------------------------------------------------------------

    def on_task_start(self, task: int) -> None:
        if task == 0:
            self.load_knowledge({})
        self.restore_pretrained()
        if self.lora is not None:
            self.lora.reset(Generator().manual_seed(stream_seed(self.sequence.seed, "lora", task)))

    def on_task_end(self, task: int) -> None:
        """Unify the deltas; from here on the CLIP is the pre-trained model, and an expert only while one predicts."""
        name, delta = self.sequence.names[task], self.delta()
        if not all(tensor.isfinite().all() for tensor in delta.values()):
            raise InputError(
                f"The weights are not finite after task '{name}': lower `model.lr`, or look for broken images."
            )
        self.fusion = fuse(self.fusion, delta)
        self.learned.append(name)
        assert len(self.fusion) == len(self.learned) == task + 1
        self.restore_pretrained()

    @torch.no_grad()
    def delta(self) -> dict[str, Tensor]:
        """delta_t of the weights that learn, by name."""
        if self.lora is not None:
            delta: dict[str, Tensor] = self.lora()
            return delta
        return delta_of(self.pretrained_weights(), dict(self.clip.model.named_parameters()))

    def pretrained_weights(self) -> dict[str, Tensor]:
        """The pre-trained weights by name."""
        return dict(self.initial.module.named_parameters())

    def knowledge(self) -> dict[str, Tensor]:
        if self.fusion is None:
            return {}
        return FusedTasks(self.fusion, self.learned, self.prototypes, self.start_hash).tensors()

    def load_knowledge(self, knowledge: dict[str, Tensor]) -> None:
        self.fusion, self.learned, self.prototypes = None, [], []
        if not knowledge:
            return
        tasks = FusedTasks.of(knowledge, list(self.pretrained_weights()))
        if not torch.equal(tasks.start, self.start_hash):
            raise InputError("The state of the run belongs to another CLIP: give the `model.clip` with which it began.")
        self.fusion, self.learned, self.prototypes = tasks.fusion, tasks.names, tasks.prototypes

    # --- prediction ---------------------------------------------------------------------------------------------------

    def evaluate(self, task: Candidates, shard: TestShard) -> Tensor:
        if not self.learned or not len(shard):
            return super().evaluate(task, shard)
        try:
            if self.task_id == "unknown" or task.name not in self.learned:
                return self.aggregate_experts(task, shard)
            self.reconstruct_expert(self.learned.index(task.name))
            return super().evaluate(task, shard)
        finally:
            self.restore_pretrained()

    def aggregate_experts(self, task: Candidates, shard: TestShard) -> Tensor:
        """Logits ``[n, C]`` of the pre-trained model and of each image's nearest experts, averaged.

        One expert after the other, and an expert sees only the images that chose it.
        """

        def expert(learned: int, rows: Tensor) -> Tensor:
            self.reconstruct_expert(learned)
            return self.logits(task, self.encode_shard(shard, rows))

        self.restore_pretrained()
        features = self.pretrained_features(shard)
        similarities = task_similarities(features, [of_task.to(features) for of_task in self.prototypes])
        chosen = nearest_tasks(similarities, self.experts)
        weights = similarities.clamp(min=0) * chosen if self.weighting == "similarity" else chosen.to(features)
        return aggregate(self.logits(task, features), expert, weights)

    def pretrained_features(self, shard: TestShard) -> Tensor:
        """Unit features ``[n, D]`` of all images by the pre-trained model, which are encoded once in a run."""
        if shard.features is None:
            shard.features = self.encode_shard(shard).cpu()
        return shard.features.to(self.device)

    def logits(self, task: Candidates, features: Tensor) -> Tensor:
        """Logits ``[n, C]`` of unit image features ``[n, D]`` over the classes of a task, by the present weights."""
        return TEST_LOGIT_SCALE * cosine(features, self.classifier(task))

    def reconstruct_expert(self, task: int) -> None:
        """Give the CLIP the weights of a task's expert: ``theta_0 + unified * mask_t * rescaler_t``."""
        assert self.fusion is not None
        weights = dict(self.clip.model.named_parameters())
        write_expert_(weights, self.pretrained_weights(), Decoupled(self.fusion, task))
        torch.clear_autocast_cache()  # it may hold these weights as they were, in half precision

    def restore_pretrained(self) -> None:
        """Give the CLIP its pre-trained weights."""
        self.initial.copy_to(self.clip.model)
        torch.clear_autocast_cache()
