"""Ranks that share the class prompts compute what ranks compute that encode all of them."""

from pathlib import Path

import torch
from torch import Tensor, distributed, multiprocessing

from callbacks.encoding import encode_shared

RANKS = 2
SHARES = {16: 8, 21: 11, 5: 5}
"""Prompts that a rank encodes, by the number of all; of 5, each encodes all."""


def on_rank(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    torch.save([compared(rank, prompts) for prompts in SHARES], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def compared(rank: int, prompts: int) -> tuple[int, list[tuple[Tensor, Tensor]]]:
    """How many prompts this rank encodes; the features, and the weight's gradient summed over ranks as DDP does it,
    with shares and without."""
    encoded: list[int] = []
    weight = torch.arange(12.0, dtype=torch.float64).reshape(4, 3).cos().requires_grad_()
    tokens = torch.arange(4 * prompts).reshape(prompts, 4) % 7

    def encode(rows: Tensor) -> Tensor:
        encoded.append(len(rows))
        return (rows.double() @ weight).tanh()

    results = []
    for features in (encode_shared(encode, tokens), encode(tokens)):
        loss = (features * torch.arange(features.numel()).reshape(prompts, 3).add(rank).sin()).sum().exp()
        gradient = torch.autograd.grad(loss, weight)[0]
        distributed.all_reduce(gradient)
        results.append((features.detach(), gradient))
    return encoded[0], results


def test_gradients_are_those_of_ranks_that_encode_all(tmp_path: Path) -> None:
    multiprocessing.spawn(on_rank, (str(tmp_path),), nprocs=RANKS)
    for rank in range(RANKS):
        of_rank = torch.load(tmp_path / f"{rank}.pt")
        for share, (encoded, ((ours, our_gradient), (theirs, their_gradient))) in zip(
            SHARES.values(), of_rank, strict=True
        ):
            assert encoded == share
            torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-14)
            torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-12, atol=1e-12)
