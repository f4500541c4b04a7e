"""ZSCL with the further losses of its authors' ablations."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from gift_lightning.errors import InputError
from gift_lightning.methods.zscl import ZSCL
from gift_lightning.numerics.losses import Pairs, distillation, similarities


class ZSCLAblation(ZSCL):
    """ZSCL that also keeps to the teacher's image features, or to its similarities between images.

    loss = loss of ZSCL + f * MSE(image features of teacher and student)
           + g * D(cosines of each image to the others, of teacher and student)

    With the defaults it is ``ZSCL``.

    Args:
        feature_weight: f.
        image_image_weight: g.
        kwargs: see ``ZSCL``.
    """

    def __init__(self, feature_weight: float = 0.0, image_image_weight: float = 0.0, **kwargs: Any) -> None:
        for name, value in {"feature_weight": feature_weight, "image_image_weight": image_image_weight}.items():
            if value < 0:
                raise InputError(f"`model.{name}` is {value}: it cannot be negative.")
        super().__init__(**kwargs)
        self.feature_weight, self.image_image_weight = feature_weight, image_image_weight

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.image_image_weight:
            together = self.replay.batch_size // self.trainer.accumulate_grad_batches
            if together < 2:
                raise InputError(
                    "`model.image_image_weight` compares images: give `data.replay.batch_size` at least 2."
                )

    def distil(self, teacher: Pairs, image: Tensor) -> dict[str, Tensor]:
        losses = super().distil(teacher, image)
        if self.feature_weight:
            losses["feature_distance"] = self.feature_weight * F.mse_loss(image, teacher.image)
        if self.image_image_weight:
            scale = self.clip.logit_scale
            both = similarities(teacher.image, scale), similarities(image, scale)
            losses["image_image_distillation"] = self.image_image_weight * distillation(*both, self.temperature)
        return losses
