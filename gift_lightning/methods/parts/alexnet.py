"""torchvision's AlexNet, on whose features the authors of MoE-Adapters train their auto-encoders."""

from pathlib import Path

import torch
from torch import nn

from gift_lightning.errors import InputError
from gift_lightning.hub import HOW_TO_FETCH
from gift_lightning.tensors import load_tensors


def load_alexnet(path: Path) -> nn.Module:
    """The convolutions of torchvision's AlexNet, without their last ReLU and pooling.

    Raises:
        InputError: the file is missing, damaged, or of another model.
    """
    from torchvision.models import alexnet

    if torch.get_default_device().type == "meta":
        return alexnet().features[:11]
    if not path.is_file():
        raise InputError(f"model.alexnet {path} does not exist: {HOW_TO_FETCH}, or give null.")
    features, prefix = alexnet().features, "features."
    try:
        state = load_tensors(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        features.load_state_dict({name[len(prefix) :]: w for name, w in state.items() if name.startswith(prefix)})
    except Exception as error:
        raise InputError(f"model.alexnet {path} does not hold torchvision's weights of AlexNet.") from error
    return features[:11]
