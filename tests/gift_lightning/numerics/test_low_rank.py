"""Low-rank matrices beside a model that does not know of them."""

import open_clip
import pytest
import torch
from torch import Generator, nn
from torch.func import functional_call

from gift_lightning.errors import InputError
from gift_lightning.numerics.low_rank import LoRA, LowRank

VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
CONFIG = {"embed_dim": 32, "vision_cfg": VISION, "text_cfg": {"width": 32, "heads": 1, "layers": 1}}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return open_clip.model.CLIP(**CONFIG).eval().requires_grad_(False)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def adapted(model: nn.Module, lora: LowRank) -> dict[str, torch.Tensor]:
    return {name: model.get_parameter(name) + addition for name, addition in lora().items()}


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 3, 32, 32, generator=generator()), torch.randint(1, 9, (2, 77), generator=generator())


def test_it_adapts_what_activations_are_multiplied_with(model: nn.Module) -> None:
    shapes = LowRank(model, LoRA(rank=4)).shapes
    assert shapes["visual.conv1.weight"] == (64, 3, 8, 8)
    for end in ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"):
        assert {name for name in shapes if name.endswith(end)} >= {
            f"visual.transformer.resblocks.1.{end}",
            f"transformer.resblocks.0.{end}",
        }
    assert "token_embedding.weight" not in shapes and not any("bias" in name or "ln_" in name for name in shapes)


def test_reset_matrices_change_nothing(model: nn.Module) -> None:
    lora = LowRank(model, LoRA(rank=4))
    lora.reset(generator())
    assert all(not addition.any() for addition in lora().values())
    before = model(*inputs())
    after = functional_call(model, adapted(model, lora), inputs())
    # not bit for bit: attention over frozen weights takes a shorter way
    assert all((ours - theirs).abs().max() < 1e-5 for ours, theirs in zip(after, before, strict=True))


def test_a_step_moves_every_target_by_a_low_rank(model: nn.Module) -> None:
    lora = LowRank(model, LoRA(rank=2, scale=0.5))
    lora.reset(generator())
    optimizer = torch.optim.SGD(lora.parameters(), lr=10.0)
    for _ in range(2):
        images, texts, _ = functional_call(model, adapted(model, lora), inputs())
        optimizer.zero_grad()
        (images - texts).square().sum().backward()
        assert all(parameter.grad is not None for parameter in lora.parameters())
        optimizer.step()
    merged = open_clip.model.CLIP(**CONFIG).eval()
    merged.load_state_dict({**model.state_dict(), **adapted(model, lora)})
    ours = functional_call(model, adapted(model, lora), inputs())
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(ours, merged(*inputs()), strict=True))
    for name, addition in lora().items():
        assert 0 < torch.linalg.matrix_rank(addition.flatten(1)) <= 2, name


def test_what_is_drawn_depends_on_the_generator_alone(model: nn.Module) -> None:
    lora = LowRank(model, LoRA())
    draws = []
    for seed in (0, 1, 0):
        lora.reset(generator(seed))
        draws.append([matrix.clone() for matrix in lora.down])
    first, other, again = draws
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_a_rank_is_at_most_that_of_the_weight(model: nn.Module) -> None:
    assert max(len(matrix) for matrix in LowRank(model, LoRA(rank=10_000)).down) <= 64


def test_targets_are_chosen_by_name(model: nn.Module) -> None:
    assert all(name.startswith("visual.") for name in LowRank(model, LoRA(targets=["visual.*"])).shapes)
    with pytest.raises(InputError, match=r"LoRA has no weight 'vision\.\*' to adapt: one of them is 'visual\.conv1"):
        LowRank(model, LoRA(targets=["*.attn.*", "vision.*"]))
    with pytest.raises(InputError, match="The rank of LoRA is 0: give at least 1"):
        LoRA(rank=0)
