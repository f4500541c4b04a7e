"""The state of ConDU between tasks as tensors by name, and back."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gift_lightning.errors import InputError
from gift_lightning.numerics.fusion import Fusion


@dataclass(frozen=True)
class FusedTasks:
    """The tasks learned.

    Attributes:
        fusion: the unified delta, and the trigger of each task.
        names: of the tasks.
        prototypes: of the classes ``[C, D]`` of each task.
        start: hash of the pre-trained weights.
    """

    fusion: Fusion
    names: list[str]
    prototypes: list[Tensor]
    start: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """All of it as tensors, by name."""
        tensors = {f"unified.{name}": tensor for name, tensor in self.fusion.unified.items()}
        for task, name in enumerate(self.names):
            tensors[f"mask.{task}.{name}"] = self.fusion.masks[task]
            tensors[f"prototypes.{task}"] = self.prototypes[task]
        rescalers = torch.tensor(self.fusion.rescalers, dtype=torch.float64)
        return {**tensors, "rescalers": rescalers, "start": self.start}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], parameters: list[str]) -> "FusedTasks":
        """From ``tensors``.

        Args:
            tensors: by name.
            parameters: of the CLIP, in the order in which a mask has their bits.

        Raises:
            InputError: they are of another method, or do not belong together.
        """
        masks = sorted((key for key in tensors if key.startswith("mask.")), key=lambda key: int(key.split(".")[1]))
        unified = {name: tensors[f"unified.{name}"] for name in parameters if f"unified.{name}" in tensors}
        try:
            rescalers = tensors["rescalers"].tolist()
            prototypes = [tensors[f"prototypes.{task}"] for task in range(len(masks))]
            start = tensors["start"]
        except KeyError as error:
            raise InputError(f"The state of the run is not of a ConDU with this CLIP: {error} is missing.") from error
        size = -(-sum(tensor.numel() for tensor in unified.values()) // 8)
        if not masks or len(rescalers) != len(masks) or any(len(tensors[key]) != size for key in masks):
            raise InputError("The state of the run is damaged: its masks, rescalers and delta do not belong together.")
        fusion = Fusion(unified, [tensors[key] for key in masks], rescalers)
        return cls(fusion, [key.split(".", 2)[2] for key in masks], prototypes, start)
