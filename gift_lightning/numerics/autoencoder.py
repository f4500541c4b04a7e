"""Auto-encoders of image features: which task an image looks like is that of the one with the smallest error."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

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


def squashed(features: Tensor) -> Tensor:
    """Unit features ``[n, D]``, spread out so that an entry is of size 1, and squeezed between 0 and 1.

    >>> squashed(torch.tensor([[0.6, -0.8, 0.0, 0.0]]))
    tensor([[0.7685, 0.1680, 0.5000, 0.5000]])
    """
    return (math.sqrt(features.shape[1]) * features).sigmoid()
