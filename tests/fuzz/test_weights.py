"""Files of weights and indices of pipelines, damaged at random: read as they were written, or one sentence."""

import json
import random
import shutil
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from datamodules.replay.diffusion import DiffusionGenerator
from gift_lightning.clip.source import CLIPSource
from gift_lightning.clip.weights import load_weights
from gift_lightning.errors import InputError
from tests.datamodules.replay.test_stable_diffusion import folder as pipeline  # noqa: F401 (a fixture)
from tests.fuzz.cases import cases
from tests.gift_lightning.clip.test_weights import small

WRAPPERS = ["module.", "_orig_mod.", "model.", "net.", "clip_model.", "_fsdp_wrapped_module."]
CONTAINERS = ["state_dict", "model", "model_state_dict", "net", "network", "module"]
BESIDE: dict[str, Any] = {
    "epoch": 3,
    "optimizer": {"state": {}},
    "best": 0.5,
    "ema": {"x": torch.zeros(2)},
    "name": "a",
}


@pytest.fixture(scope="module")
def source() -> nn.Module:
    return small(seed=7)


def write(state: dict[str, Tensor], path: Path, draw: random.Random) -> None:
    """In any of the forms that programs write."""
    prefix = "".join(draw.choices(WRAPPERS, k=draw.randint(0, 3)))
    content: Any = {prefix + name: tensor.clone() for name, tensor in state.items()}
    if draw.random() < 0.3:
        save_file(content, path)
        return
    for key in draw.choices(CONTAINERS, k=draw.randint(0, 3)):
        content = {**dict(draw.sample(sorted(BESIDE.items(), key=str), k=2)), key: content}
    torch.save(content, path, _use_new_zipfile_serialization=draw.random() < 0.8)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """With a flipped bit, a hole, a cut tail, or bytes that come twice."""
    place, length = draw.randrange(len(content)), draw.choice([1, 16, 4096])
    if draw.random() < 0.5:  # where the structure is, not the numbers
        place = draw.choice([draw.randrange(min(4000, len(content))), len(content) - draw.randint(1, 4000)])
    kinds = {
        "flip": content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :],
        "hole": content[:place] + bytes(length) + content[place + length :],
        "cut": content[:place],
        "twice": content[:place] + content[max(0, place - length) :],
    }
    return kinds[draw.choice(sorted(kinds))]


@cases(8)
def test_whole_files_give_their_weights_and_damaged_ones_at_most_a_sentence(
    case: int, source: nn.Module, tmp_path: Path
) -> None:
    draw, path = random.Random(case), tmp_path / f"file{case % 3}.pt"
    write(source.state_dict(), path, draw)
    model = small()
    load_weights(model, path)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), source.parameters(), strict=True))
    whole = path.read_bytes()
    has_sums = is_zipfile(path)
    for _ in range(5):
        path.write_bytes(damaged(whole, draw))
        for ask in (lambda: load_weights(model, path), CLIPSource("ViT-B-16", str(path)).find_origin):
            try:
                ask()
            except InputError as error:
                assert str(path) in str(error) and "\n" not in str(error)
        if has_sums:  # only what holds no weights may differ
            pairs = zip(model.parameters(), source.parameters(), strict=True)
            assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def changed(value: Any, draw: random.Random) -> Any:
    """A JSON value with another one at a place."""
    others = [None, True, -1, 1e300, "", "x/../y", [], {}, [None], ["diffusers"], ["diffusers", "x"], [[1], 2]]
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        return {**value, key: changed(value[key], draw)}
    return draw.choice(others)


@cases(6)
def test_an_index_of_wrong_types_gets_at_most_a_sentence(
    case: int,
    pipeline: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    draw = random.Random(case)
    shutil.copytree(pipeline, tmp_path / "copy")
    file = draw.choice(["model_index.json", "model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
    path = tmp_path / "copy" / file
    path.write_text(json.dumps(changed(json.loads(path.read_text()), draw)))
    generator = DiffusionGenerator(str(tmp_path / "copy"), steps=1, batch_size=1, device="cpu")
    try:
        generator.prepare()
        assert len(generator.generate(["a star"], [1])) == 1
    except InputError as error:
        assert "\n" not in str(error) and str(error).startswith("name: ")
