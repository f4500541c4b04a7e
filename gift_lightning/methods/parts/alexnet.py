"""torchvision's AlexNet, on whose features the authors of MoE-Adapters train their auto-encoders."""

import torch
from torch import nn

from gift_lightning.errors import InputError
from gift_lightning.hub import HOW_TO_FETCH
from gift_lightning.sources import WebFile
from gift_lightning.tensors import load_tensors


def alexnet_file(file: str) -> WebFile:
    """The file of torchvision's weights, and the address from which it comes."""
    digits = "7be5be79"  # its name has the first ones of its SHA-256
    url = f"https://download.pytorch.org/models/alexnet-owt-{digits}.pth"
    return WebFile("AlexNet", file, url, size=244_000_000, sha256=digits)


def load_alexnet(file: str) -> nn.Module:
    """The convolutions of torchvision's AlexNet, without their last ReLU and pooling.

    Under ``torch.device("meta")`` they have no weights, and no file is read.

    Raises:
        InputError: the file is missing, damaged, or of another model.
    """
    from torchvision.models import alexnet

    path, prefix = alexnet_file(file).file, "features."
    layers: nn.Module = alexnet().features[:11]
    if torch.get_default_device().type == "meta":
        return layers
    if not path.is_file():
        raise InputError(f"`model.alexnet` {path} does not exist: {HOW_TO_FETCH}, or give null.")
    try:
        state = load_tensors(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        layers.load_state_dict({name[len(prefix) :]: w for name, w in state.items() if name.startswith(prefix)})
    except Exception as error:
        raise InputError(f"`model.alexnet` {path} does not hold torchvision's weights of AlexNet.") from error
    return layers
