"""The vision tower of the small CLIP: a residual network for 32 x 32 pictures, ``mini_resnet`` in timm."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.models import register_model
from torch import Tensor, nn

_GROUPS = 8


class _Block(nn.Module):
    """Pre-activation residual block. Group instead of batch normalisation: no statistics that drift between tasks."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_GROUPS, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.norm2 = nn.GroupNorm(_GROUPS, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        same = inputs == outputs and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x)))
        return self.conv2(F.relu(self.norm2(h))) + self.skip(x)


class MiniResNet(nn.Module):
    """Images ``[B, 3, 32, 32]`` to features ``[B, 5 x last width]``: the mean and the maxima of the four quarters.

    Args:
        widths: channels of the three stages.
        num_classes: 0 for features, else the outputs of a linear classifier.
    """

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128), num_classes: int = 0) -> None:
        super().__init__()
        a, b, c = widths
        self.num_features = self.head_hidden_size = 5 * c
        self.num_classes = num_classes
        self.default_cfg: dict[str, Any] = {"input_size": (3, 32, 32), "num_classes": num_classes, "pool_size": None}
        self.stem = nn.Conv2d(3, a, 3, 2, 1)
        self.blocks = nn.Sequential(_Block(a, a, 1), _Block(a, b, 2), _Block(b, b, 1), _Block(b, c, 2), _Block(c, c, 1))
        self.norm = nn.GroupNorm(_GROUPS, c)
        self.head: nn.Module = nn.Identity()
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Remove the classifier (0) or replace it by a new one, as timm expects; the pooling is fixed."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """Feature maps ``[B, last width, 4, 4]`` of images ``[B, 3, 32, 32]``."""
        x = x.contiguous(memory_format=torch.channels_last)  # the faster layout on CPUs
        return F.relu(self.norm(self.blocks(self.stem(x))))

    def forward_head(self, x: Tensor) -> Tensor:
        """Features, or logits, ``[B, D]`` of feature maps ``[B, W, H, H]``: from mean and maxima of the quarters."""
        pooled = torch.cat([x.mean((2, 3)), F.adaptive_max_pool2d(x, 2).flatten(1)], 1)
        return self.head(pooled)

    def forward(self, x: Tensor) -> Tensor:
        """Features, or logits of the classifier, ``[B, D]`` of images ``[B, 3, 32, 32]``."""
        return self.forward_head(self.forward_features(x))


@register_model
def mini_resnet(pretrained: bool = False, **kwargs: Any) -> MiniResNet:
    """The vision tower of MiniMTIL's CLIP, with random weights.

    Raises:
        ValueError: ``pretrained``, for the tower has no weights apart from the CLIP.
    """
    if pretrained:
        raise ValueError("mini_resnet alone has no weights: load the whole CLIP from datamodules.mini.clip.FOLDER")
    return MiniResNet(num_classes=kwargs.get("num_classes", 0))
