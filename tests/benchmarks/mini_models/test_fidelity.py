"""How fidelity is measured, judged and told."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.mini_models.generator import card
from benchmarks.mini_models.generator.fidelity import fidelity_table, measure, recognised, sample
from benchmarks.mini_models.generator.judges import Classifier, _labelled
from datamodules.mini import OracleGenerator
from datamodules.mini.prompts import prompts_by_kind
from datamodules.mini.world import KINDS
from gift_lightning.errors import InputError


class AlwaysFirst:
    """Takes every picture for the first class of its kind."""

    name = "first"

    def recognise(self, kind: str, pictures: Tensor) -> Tensor:
        return torch.zeros(len(pictures), dtype=torch.long)


class Sampler(OracleGenerator):
    """The renderer with the settings of a diffusion model."""

    def identity(self) -> dict[str, object]:
        return {"name": "Sampler", "steps": 10, "guidance": 2.0}


def test_a_judge_that_guesses_reaches_chance() -> None:
    found = measure(Sampler(), [AlwaysFirst()], per_class=1)
    for shares in (found["generator"]["first"], found["renderer"]["first"]):
        assert shares == found["chance"] and list(shares) == [*KINDS, "mean"]
    assert found["images_per_second"] > 20
    assert json.loads(json.dumps(found)) == found


def test_samples_come_in_the_order_of_the_classes() -> None:
    asked: list[str] = []

    class Asked(OracleGenerator):
        def generate(self, prompts: list[str], seeds: list[int]) -> list[Image.Image]:
            asked.extend(prompts)
            assert len(set(seeds)) == len(seeds) and len(prompts) <= 7
            return [Image.new("L", (64, 64), len(asked) - len(prompts) + i < 5 and 255) for i in range(len(prompts))]

    samples, _ = sample(Asked(batch_size=7), per_class=2)
    expected = [prompt for prompts in prompts_by_kind().values() for prompt in prompts.values() for _ in range(2)]
    assert asked == expected
    assert [len(pictures) for pictures in samples.values()] == [2 * len(family.names) for family in KINDS.values()]
    assert (samples["sprite"][:5] == 255).all() and not samples["sprite"][5:].any()


def test_labels_of_the_classifier_belong_to_their_kind() -> None:
    pictures, classes, bounds = _labelled(300, seed=1)
    assert pictures.shape == (300, 3, 32, 32) and pictures.dtype == torch.uint8
    assert ((bounds[:, 0] <= classes) & (classes < bounds[:, 1])).all()
    assert set((bounds[:, 1] - bounds[:, 0]).tolist()) == {len(family.names) for family in KINDS.values()}


def test_the_classifier_learns_and_repeats_itself() -> None:
    samples, _ = sample(OracleGenerator(), per_class=2)
    shares = recognised(Classifier(steps=80), samples)
    assert shares["mean"] > 12 and shares["land"] > 16, shares  # chance is 5 and 4
    first, second = (Classifier(steps=2).recognise("flag", samples["flag"]) for _ in range(2))
    assert torch.equal(first, second)


def test_card(tmp_path: Path) -> None:
    for part, parameters in (("vae", 200_000), ("unet", 2_600_000), ("text_encoder", 560_000)):
        (tmp_path / part).mkdir()
        save_file({"weight": torch.zeros(parameters)}, tmp_path / part / "model.safetensors")
    found = measure(Sampler(), [AlwaysFirst(), AlwaysFirst()], per_class=1)
    found["generator"]["second"] = found["renderer"]["second"] = found["chance"]
    with pytest.raises(InputError, match=r"training\.json does not exist"):
        card.write_card(tmp_path, Sampler(), found)
    facts = {"steps": 1000, "autoencoder_steps": 20, "seed": 3, "batch_size": 64, "threads": 1, "seconds": 77}
    (tmp_path / "training.json").write_text(json.dumps(facts))
    card.write_card(tmp_path, Sampler(), found)
    text = (tmp_path / "README.md").read_text()
    assert "--steps 1000 --autoencoder-steps 20 --seed 3 --batch-size 64 --threads 1" in text
    assert "2.60 M parameters" in text and "64,000 captioned pictures" in text
    assert "| land | 25 | 4.0 | 4.0 | 4.0 | 4.0 | 4.0 |" in text
    assert json.loads((tmp_path / "fidelity.json").read_text()) == found
    with Image.open(tmp_path / "samples.png") as grid:
        assert grid.height > 14 * 32 * 3 and grid.width > 8 * 32 * 3


def test_table_has_a_row_for_each_kind_and_the_mean() -> None:
    found = measure(Sampler(), [AlwaysFirst()], per_class=1)
    found["generator"]["second"] = found["renderer"]["second"] = found["chance"]
    assert fidelity_table(found).row_count == len(KINDS) + 1
