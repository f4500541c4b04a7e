"""A frozen CLIP with experts, routers and a selector: how they are made, saved and loaded."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.errors import InputError
from gift_lightning.methods.base import ContinualCLIP
from gift_lightning.methods.parts.adapters import Adapters
from gift_lightning.methods.parts.alexnet import alexnet_file, load_alexnet
from gift_lightning.methods.parts.earlier_adapters import convert_checkpoint, stacked
from gift_lightning.methods.parts.experts import ExpertSettings
from gift_lightning.methods.parts.selector import Selector
from gift_lightning.numerics.autoencoder import squashed
from gift_lightning.numerics.row_adamw import RowAdamW
from gift_lightning.seeding import stream_seed
from gift_lightning.sources import Source
from gift_lightning.tensors import hash_of


class ExpertCLIP(ContinualCLIP):
    """Experts and routers beside the blocks of a frozen CLIP, and auto-encoders that select the router.

    Between tasks the experts, all routers and all auto-encoders are stored.

    Args:
        settings: of the experts in each block.
        image_tower_only: whether the text tower has none.
        has_own_routers: whether each task has a router, and an auto-encoder by which it is selected.
        selector_width: of an auto-encoder.
        alexnet: file with weights of AlexNet, whose features the auto-encoders see; ``None`` for those of the CLIP.
        kwargs: see ``ContinualCLIP``.

    Attributes:
        learned: number of tasks learned.
    """

    optimizer_type = RowAdamW
    shares_prompts = False  # dropout and gate noise are drawn for all prompts at once

    not_in_knowledge = ("adapters.activation_counts", "adapters.times_frozen", "adapters.step_activations")

    def __init__(
        self,
        settings: ExpertSettings,
        image_tower_only: bool,
        has_own_routers: bool,
        selector_width: int,
        alexnet: str | None,
        **kwargs: Any,
    ) -> None:
        for name in ("compile", "activation_checkpointing"):
            if kwargs.get(name):
                raise InputError(
                    f"{type(self).__name__} cannot have `model.{name}`: its experts work in hooks of blocks. Remove it."
                )
        super().__init__(**kwargs)
        self.settings, self.has_own_routers, self.selector_width = settings, has_own_routers, selector_width
        self.towers = ["image"] if image_tower_only else ["image", "text"]
        self.clip.requires_grad_(False)
        self.alexnet = None if alexnet is None else FrozenCopy(load_alexnet(alexnet))
        frozen = [*self.clip.model.parameters(), *(self.alexnet.parameters() if self.alexnet else [])]
        self.start_hash = hash_of(frozen)  # here: later they may be in another precision
        self.adapters: Adapters | None = None
        self.selector: Selector | None = None
        self.learned = 0

    @classmethod
    def sources(cls, arguments: Mapping[str, Any]) -> list[Source]:
        alexnet = arguments.get("alexnet")
        return [*super().sources(arguments), *([alexnet_file(alexnet)] if alexnet else [])]

    def build(self, tasks: int, has_reference: bool, seed: int = 0) -> None:
        """Experts, routers and auto-encoders: all from the start, for DDP and optimisers take no later ones."""
        if self.adapters is not None:
            self.adapters.detach()
        model, routers = self.clip.model, tasks if self.has_own_routers else 1
        self.adapters = Adapters(model, self.towers, self.settings, routers, seed).to(model.logit_scale)
        if self.has_own_routers:
            seeds = [stream_seed(seed, "selector", task) for task in range(tasks)]
            reference = stream_seed(seed, "selector", "reference") if has_reference else None
            image = torch.zeros(1, 3, *model.visual.image_size).to(model.logit_scale)
            features = self.selector_features(image).shape[1]
            self.selector = Selector(features, self.selector_width, seeds, reference).to(image)

    @property
    def moe(self) -> Adapters:
        """The experts and routers, once the number of tasks is set."""
        assert self.adapters is not None
        return self.adapters

    @property
    def router(self) -> int:
        """Number of the current task's router."""
        return self.task if self.has_own_routers else 0

    @torch.no_grad()
    def selector_features(self, images: Tensor) -> Tensor:
        """Features ``[n, F]`` between 0 and 1 of normalised images, for the auto-encoders."""
        if self.alexnet is not None:
            features: Tensor = self.alexnet.module(images).flatten(1)
            return (features if features.dtype == torch.float64 else features.float()).sigmoid()
        with self.moe.routed(None):
            return squashed(self.clip.encode_image(images))

    def learned_parameters(self) -> Sequence[Tensor]:
        of_selector = [] if self.selector is None else self.selector.of_task(self.task).parameters()
        return [*self.moe.learned_rows(), *of_selector]

    def stored_copies(self) -> list[FrozenCopy[Any]]:
        return [] if self.alexnet is None else [self.alexnet]

    # --- the state between tasks --------------------------------------------------------------------------------------

    def knowledge(self) -> dict[str, Tensor]:
        if not self.learned:
            return {}
        return {**self.learned_tensors(), "learned": torch.tensor(self.learned), "start": self.start_hash}

    def learned_tensors(self) -> dict[str, Tensor]:
        """Experts, and the routers and auto-encoders of the tasks learned."""
        tensors = {f"adapters.{name}": tensor for name, tensor in self.moe.tensors(self.learned).items()}
        if self.selector is not None:
            tensors |= {f"selector.{name}": tensor for name, tensor in self.selector.tensors(self.learned).items()}
        return tensors

    def load_knowledge(self, knowledge: dict[str, Tensor]) -> None:
        self.learned = 0
        if not knowledge:
            return
        fault = f"The state of the run is not of a {type(self).__name__}"
        if not {"learned", "start"} <= knowledge.keys():
            raise InputError(f"{fault}: name the run's method.")
        if not torch.equal(knowledge["start"], self.start_hash):
            raise InputError("The state of the run belongs to another CLIP: give the `model.clip` with which it began.")
        self.learned = int(knowledge["learned"])
        if self.adapters is None:
            self.build(self.learned, any(name.startswith("selector.reference.") for name in knowledge))
        ours, theirs = self.learned_tensors(), stacked(knowledge)
        if {name: t.shape for name, t in ours.items()} != {n: t.shape for n, t in theirs.items() if "." in n}:
            raise InputError(f"{fault} with these settings: give those of the run.")
        for name, tensor in ours.items():
            tensor.copy_(theirs[name])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        convert_checkpoint(checkpoint, self.has_own_routers)
        super().on_load_checkpoint(checkpoint)
