"""Auto-encoders of image features, and the selection of a task by their errors (DDAS of MoE-Adapters)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

PLAIN = -1
"""The route of an image that no task is selected for: the pre-trained CLIP."""


class AutoEncoder(nn.Module):
    """``sigmoid(W_2 relu(W_1 x + b_1) + b_2)`` of features ``[n, F]`` between 0 and 1.

    Its parameters have no ``requires_grad`` outside of ``AutoEncoderTraining``: the optimiser and the ranks of a model
    that it is a part of leave it out.

    Args:
        features: F.
        width: units between the two layers.
        generator: of the initial weights.

    >>> autoencoder = AutoEncoder(features=6, width=2, generator=torch.Generator().manual_seed(0))
    >>> features = torch.full((3, 6), 0.5)
    >>> autoencoder(features).shape, autoencoder.errors(features).shape
    (torch.Size([3, 6]), torch.Size([3]))
    """

    def __init__(self, features: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(features, width), nn.Linear(width, features)
        for layer in (self.encoder, self.decoder):
            for weight in layer.parameters():
                nn.init.uniform_(weight, -(layer.in_features**-0.5), layer.in_features**-0.5, generator=generator)
        self.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """The reconstruction ``[n, F]``."""
        return self.decoder(self.encoder(features).relu()).sigmoid()

    def errors(self, features: Tensor) -> Tensor:
        """Mean squared error ``[n]`` of the reconstruction of each row ``[n, F]``, never in half precision."""
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

    >>> autoencoder = AutoEncoder(features=2, width=1, generator=torch.Generator().manual_seed(0))
    >>> training, features = AutoEncoderTraining(autoencoder, lr=0.1, batches=1), torch.tensor([[0.9, 0.1]])
    >>> losses = [training.step(features).item() for _ in range(9)]
    >>> losses[0] > losses[4] > losses[8] > autoencoder.errors(features).item()
    True
    """

    def __init__(self, autoencoder: AutoEncoder, lr: float, batches: int) -> None:
        self.autoencoder, self.lr, self.batches = autoencoder, lr, batches
        self.optimizer = Adam(autoencoder.parameters(), lr=lr, weight_decay=1e-4)
        self.steps = 0

    @torch.enable_grad()
    def step(self, features: Tensor) -> Tensor:
        """One optimiser step on features ``[n, F]``; returns the loss before it, a scalar."""
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
    """The task with the smallest error for each row of errors ``[n, T]``: ``[n]``.

    It is ``PLAIN`` where that error is greater than the threshold, or not smaller than that of the reference.

    Args:
        errors: of the auto-encoders of T tasks.
        threshold: the largest error of an image of a task.
        reference: errors of the auto-encoder of reference images, ``[n]``; ``None`` if there is none.

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


def squashed(features: Tensor) -> Tensor:
    """``sigmoid(sqrt(D) x)`` of unit features ``[n, D]``, whose entries have the mean square 1 before the sigmoid.

    >>> squashed(torch.tensor([[0.6, -0.8, 0.0, 0.0]]))
    tensor([[0.7685, 0.1680, 0.5000, 0.5000]])
    """
    return (math.sqrt(features.shape[1]) * features).sigmoid()
