"""The small CLIP: a real open_clip model folder whose weights, tokenizer and numbers belong together."""

import json
import re
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.mini_models.card import TASKS, zero_shot
from benchmarks.mini_models.pretrain import new_model
from benchmarks.mini_models.recipe import WEIGHTS
from benchmarks.mini_models.vocabulary import merges, words, write_merges
from datamodules.mini.clip import FOLDER
from datamodules.mini.world import stream
from gift_lightning.clip.source import CLIPSource


@pytest.fixture(scope="module")
def model() -> open_clip.CLIP:
    return open_clip.create_model(f"local-dir:{FOLDER}").eval()


@pytest.fixture(scope="module")
def accuracies() -> dict[str, float]:
    return zero_shot(CLIPSource("package:datamodules.mini.clip").load())


def test_open_clip_loads_the_folder(model: open_clip.CLIP) -> None:
    assert type(model) is open_clip.CLIP
    assert 1e6 < sum(p.numel() for p in model.parameters()) < 2.5e6
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())


def test_weights_are_small_complete_and_the_ones_loaded(model: open_clip.CLIP) -> None:
    assert (FOLDER / WEIGHTS).stat().st_size < 5e6
    stored = load_file(FOLDER / WEIGHTS)
    assert {value.dtype for value in stored.values()} == {torch.float16}
    fresh = new_model(FOLDER).model
    fresh.load_state_dict(stored, strict=True)
    assert all(torch.equal(fresh.state_dict()[name], value) for name, value in model.state_dict().items())


def test_tokenizer_of_the_folder() -> None:
    tokenize = open_clip.get_tokenizer(f"local-dir:{FOLDER}", bpe_path=str(FOLDER / "merges.txt.gz"))
    config = json.loads((FOLDER / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    tokens = tokenize(["a photo of a star", "Grüße, 2 unknown words!"])
    assert tokens.shape == (2, config["context_length"])
    assert tokens.max() == tokenize.eot_token_id == config["vocab_size"] - 1 == len(tokenize.encoder) - 1
    assert tokenize.decode(tokens[0, 1:6].tolist()).strip() == "a photo of a star"


def test_every_word_is_one_token_and_every_text_fits() -> None:
    tokenize = new_model(FOLDER).tokenizer
    texts = {text for seed in range(3) for text in stream(600, seed)[1]}
    texts |= {template.format(name) for task in TASKS for template in task.templates for name in task.class_names}
    used = {word for text in texts for word in text.split()}
    assert used <= set(words())
    assert all(len(tokenize.encode(word)) == 1 for word in words())
    assert max(len(tokenize.encode(text)) + 2 for text in texts) <= tokenize.context_length


def test_merges_file_is_reproduced_byte_for_byte(tmp_path: Path) -> None:
    write_merges(tmp_path / "merges.txt.gz")
    assert (tmp_path / "merges.txt.gz").read_bytes() == (FOLDER / "merges.txt.gz").read_bytes()


def test_merges_never_make_one_string_twice() -> None:
    made = ["".join(pair) for pair in merges(["abc", "ab", "bc", "cab", "abcab"])]
    assert len(made) == len(set(made))


def test_zero_shot_leaves_room_in_both_directions(accuracies: dict[str, float]) -> None:
    for task in TASKS:
        chance = 100 / len(task.class_names)
        assert 2 * chance <= accuracies[task.name] <= 95, (task.name, accuracies[task.name])
    assert 50 <= sum(accuracies.values()) / len(accuracies) <= 80


def test_model_card_tells_the_truth(accuracies: dict[str, float]) -> None:
    card = (FOLDER / "README.md").read_text()
    header, values = re.search(r"\| (Counting .*) \|\n.*\n\| (.*) \|", card).groups()  # type: ignore[union-attr]
    told = dict(zip(header.split(" | "), map(float, values.split(" | ")), strict=True))
    for name, accuracy in accuracies.items():
        assert told[name] == pytest.approx(accuracy, abs=0.5)  # two or three pictures may fall the other way elsewhere
