"""The renderer as a generator, noise as its control, and the prompts that they are asked for."""

import json

import numpy as np
import pytest

from benchmarks.mini_models.card import TASKS
from benchmarks.mini_models.generator.fidelity import recognised, sample
from benchmarks.mini_models.generator.judges import ClipJudge
from datamodules.mini import NoiseGenerator, OracleGenerator
from datamodules.mini.prompts import GENERAL_PROMPTS, general_prompts, prompts_by_kind, read_prompt
from datamodules.mini.world import KINDS
from datamodules.replay.generator import ImageGenerator
from gift_lightning.errors import InputError

PROMPTS = ["a drawing of a star", "a photo of a umbrella", "a photo of the flag of japan", "a photo of six objects"]


@pytest.mark.parametrize("generator", [OracleGenerator(), NoiseGenerator()])
def test_an_image_depends_on_its_prompt_and_seed_alone(generator: ImageGenerator) -> None:
    together = generator.generate(PROMPTS, [3, 1, 4, 1])
    assert all(image.mode == "RGB" and image.size == (32, 32) for image in together)
    for image, prompt, seed in zip(together, PROMPTS, [3, 1, 4, 1], strict=True):
        assert np.array_equal(image, generator.generate([prompt], [seed])[0])
        assert not np.array_equal(image, generator.generate([prompt], [seed + 1])[0])
    assert json.loads(json.dumps(generator.identity()))["name"] == type(generator).__name__


def test_noise_has_the_size_it_is_told() -> None:
    (image,) = NoiseGenerator(size=48).generate(["anything"], [0])
    assert image.size == (48, 48) and np.asarray(image).std() > 60


def test_the_file_of_prompts_is_what_the_function_gives() -> None:
    assert GENERAL_PROMPTS.read_text(encoding="utf-8").splitlines() == general_prompts()


def test_general_prompts_name_what_no_task_teaches() -> None:
    of_tasks = {prompt for task in TASKS for prompt in task(train_size=1).training_prompts()}
    every = [prompt for prompts in prompts_by_kind().values() for prompt in prompts.values()]
    assert of_tasks.isdisjoint(general_prompts()) and of_tasks | set(general_prompts()) == set(every)
    assert len(every) == len(set(every)) == sum(len(family.names) for family in KINDS.values())


def test_the_renderer_reads_every_prompt() -> None:
    for kind, prompts in prompts_by_kind().items():
        assert [read_prompt(prompt) for prompt in prompts.values()] == [(kind, name) for name in prompts]
    for task in TASKS:
        for name in task.class_names:
            assert {read_prompt(template.format(name))[1] for template in task.templates} == {name}
    assert read_prompt("a sketch of an arrow") == ("sprite", "arrow")


def test_a_prompt_that_cannot_be_read_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"'a photo of a starr' \(did you mean 'a photo of a star'\?\): it draws"):
        OracleGenerator().generate(["a photo of a starr"], [0])
    with pytest.raises(InputError, match="cannot read the prompt 'a photo of a unicorn'"):
        OracleGenerator().check([*PROMPTS, "a photo of a unicorn"])


def test_the_small_clip_recognises_what_the_renderer_draws() -> None:
    shares = recognised(ClipJudge(), sample(OracleGenerator(), per_class=2)[0])
    assert all(share > 80 for share in shares.values()), shares
