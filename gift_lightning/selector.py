"""Which task an image looks like: an auto-encoder for each task, and the one that gives the image back best."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from gift_lightning.checkpoint import load_tensors
from gift_lightning.errors import InputError
from gift_lightning.hub import HOW_TO_FETCH

PLAIN = -1
"""The route of an image that looks like no task: the pre-trained CLIP."""


class AutoEncoder(nn.Module):
    """``sigmoid(W_2 relu(W_1 x + b_1) + b_2)`` of features ``[n, F]`` between 0 and 1.

    It is not trained with the rest of a model, whose optimiser and ranks do not see it.

    Args:
        features: F.
        code: entries between the two layers.
        generator: of the initial weights.
    """

    def __init__(self, features: int, code: int, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(features, code), nn.Linear(code, features)
        for layer in (self.encoder, self.decoder):
            for weight in layer.parameters():
                nn.init.uniform_(weight, -(layer.in_features**-0.5), layer.in_features**-0.5, generator=generator)
        self.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        return self.decoder(self.encoder(features).relu()).sigmoid()

    def errors(self, features: Tensor) -> Tensor:
        """Mean squared error ``[n]`` of each row, never in half precision."""
        features = features.to(self.encoder.weight.dtype)
        with torch.autocast(features.device.type, enabled=False):
            return (self(features) - features).square().mean(1)


class AutoEncoderTraining:
    """The training of an auto-encoder, a batch of features at a time.

    Adam with an L2 penalty of 1e-4, and a rate that falls to a tenth every ten passes through the set.

    Args:
        autoencoder: it is changed in place.
        lr: the first rate.
        batches: in one pass through the set.
    """

    def __init__(self, autoencoder: AutoEncoder, lr: float, batches: int) -> None:
        self.autoencoder, self.lr, self.batches = autoencoder, lr, batches
        self.optimizer = Adam(autoencoder.parameters(), lr=lr, weight_decay=1e-4)
        self.steps = 0

    @torch.enable_grad()
    def step(self, features: Tensor) -> Tensor:
        """Learn from features ``[n, F]``; returns the mean error before."""
        self.optimizer.param_groups[0]["lr"] = self.lr * 0.1 ** (self.steps // self.batches // 10)
        parameters = list(self.autoencoder.requires_grad_(True).parameters())
        features = features.to(parameters[0].dtype)
        with torch.autocast(features.device.type, enabled=False):
            loss = F.mse_loss(self.autoencoder(features), features)
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.autoencoder.requires_grad_(False)
        self.steps += 1
        return loss.detach()


@torch.no_grad()
def choose_routes(errors: Tensor, threshold: float, reference: Tensor | None = None) -> Tensor:
    """For each row of errors ``[n, T]`` the task with the smallest one: ``[n]``.

    It is ``PLAIN`` where that error is greater than the threshold, or not smaller than that of the reference ``[n]``.

    >>> choose_routes(torch.tensor([[0.3, 0.1], [0.9, 0.8]]), threshold=0.5).tolist()
    [1, -1]
    >>> choose_routes(torch.tensor([[0.3, 0.1]]), threshold=0.5, reference=torch.tensor([0.05])).tolist()
    [-1]
    """
    smallest, routes = errors.min(1)
    plain = smallest > threshold
    if reference is not None:
        plain |= reference <= smallest
    return routes.masked_fill(plain, PLAIN)


class Selector(nn.Module):
    """The auto-encoders of all tasks, and one of reference images.

    Args:
        features: of an image.
        code: see ``AutoEncoder``.
        seeds: of the initial weights, one for each task.
        reference: seed of the one of reference images; ``None`` if there are no such images.
    """

    def __init__(self, features: int, code: int, seeds: list[int], reference: int | None) -> None:
        super().__init__()

        def make(seed: int) -> AutoEncoder:
            return AutoEncoder(features, code, torch.Generator().manual_seed(seed))

        self.tasks = nn.ModuleList(make(seed) for seed in seeds)
        self.reference = None if reference is None else make(reference)

    def errors(self, features: Tensor, tasks: int) -> tuple[Tensor, Tensor | None]:
        """Errors ``[n, tasks]`` of the first auto-encoders on features ``[n, F]``, and ``[n]`` of the reference's."""
        learned: list[Any] = list(self.tasks)[:tasks]
        own = torch.stack([autoencoder.errors(features) for autoencoder in learned], 1)
        return own, None if self.reference is None else self.reference.errors(features)

    def kept(self, tasks: int) -> dict[str, Tensor]:
        """The first auto-encoders and the reference's, by name."""
        later = tuple(f"tasks.{index}." for index in range(tasks, len(self.tasks)))
        return {name: weight.detach() for name, weight in self.named_parameters() if not name.startswith(later)}


def squashed(features: Tensor) -> Tensor:
    """Unit features ``[n, D]``, spread out so that an entry is of size 1, and squeezed between 0 and 1.

    >>> squashed(torch.tensor([[0.6, -0.8, 0.0, 0.0]]))
    tensor([[0.7685, 0.1680, 0.5000, 0.5000]])
    """
    return (math.sqrt(features.shape[1]) * features).sigmoid()


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
