"""What can be wrong with files of weights, models and pipelines, and the sentence told for it."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gift_lightning.clip.source import CLIPSource
from gift_lightning.clip.weights import SIZES
from tests.datamodules.replay.test_stable_diffusion import folder as pipeline  # noqa: F401 (a fixture)
from tests.datamodules.replay.test_stable_diffusion import renamed
from tests.e2e.conftest import CONFIG, call
from tests.gift_lightning.test_files import Calls

GENERATOR = "--data.replay.init_args.generator"
GIFT = [
    "--config",
    str(Path(__file__).parent / "gift.yaml"),
    GENERATOR,
    "datamodules.replay.diffusion.DiffusionGenerator",
]
UNET = "the pipeline in {bad}/%s cannot be loaded (get it again if it is not complete): it has no unet/diffusion_pytor"


def clip(name: str, pretrained: str | None = None, **more: str) -> list[str]:
    given = {"name": name, "pretrained": pretrained, **more}
    return [word for key, value in given.items() if value for word in (f"--model.clip.{key}", value)]


def own(file: str) -> list[str]:
    """Weights for the CLIP of the config."""
    return ["--model.clip.pretrained", f"{{bad}}/{file}"]


def pipe(name: str, *more: str) -> list[str]:
    return [*GIFT, f"{GENERATOR}.name", f"{{bad}}/{name}", *more]


BAD_WEIGHTS = {
    "misspelt origin": (
        clip("ViT-B-16", "{bad}/plain.pt", origin="opnai"),
        "model.clip.origin 'opnai' is not a tag of ViT-B-16 (did you mean 'openai'?): give a tag of the model or null.",
    ),
    "origin of a tag": (
        clip("ViT-B-16", "openai", origin="datacomp_xl_s13b_b90k"),
        "model.clip.pretrained names the weights of 'openai': set it to null.",
    ),
    "origin of a package": (
        ["--model.clip.origin", "openai"],
        "model.clip.origin 'openai' is not for package:datamodules.mini.clip, whose config has it",
    ),
    "file of unknown origin": (
        clip("ViT-H-14", "{bad}/plain.pt"),
        "plain.pt does not show its origin, which decides how a ViT-H-14 computes: name its tag in",
    ),
    "file of another origin": (
        clip("ViT-L-14", "{bad}/openai.pt", origin="laion2b_s32b_b82k"),
        "openai.pt is of 'openai', by its format, which only OpenAI's files have, and computes otherwise than 'laion2b",
    ),
    "weights of another origin": (
        clip("ViT-B-32", "openai", weights="{bad}/laion.safetensors"),
        "laion.safetensors is of 'laion2b_s34b_b79k', by its metadata, and computes otherwise than 'openai'",
    ),
    "weights of another model's origin": (
        clip("ViT-B-32-quickgelu", "{bad}/laion.safetensors"),
        "is of 'laion2b_s34b_b79k', by its metadata, which is not a tag of ViT-B-32-quickgelu: set another name.",
    ),
    "an average alone": (own("average.pt"), "holds no weights: give a state dict, plain or under 'state_dict' or"),
    "student and teacher": (own("two.pt"), "holds no weights: give a state dict, plain or under 'state_dict' or"),
    "one tower alone": (own("tower.pt"), "tower.pt does not fit the model: it lacks 30 of 79 tensors, the first is"),
    "weights with code": (own("code.pt"), "holds more than weights, and to read it would run code (print)"),
    "a pointer of git": (own("pointer.safetensors"), "pointer.safetensors cannot be read: it is damaged, or holds no"),
    "an empty file": (own("empty.pt"), "empty.pt cannot be read: it is damaged, or holds no weights."),
    "a folder of weights": (["--model.clip.pretrained", "{bad}"], "'{bad}' is a folder: give a weights file or null."),
    "CoCa": (clip("coca_ViT-B-32", "{bad}/plain.pt"), "towers that give their tokens to a decoder (CoCa)"),
    "a ResNet": (clip("RN50", "openai"), "BatchNorm layers, whose running statistics the methods do not carry from"),
    "SigLIP": (clip("ViT-B-16-SigLIP", "webli"), "has a logit bias (a sigmoid loss): choose one trained with the soft"),
    "a single file as pipeline": (
        pipe("single.safetensors"),
        "{bad}/single.safetensors is a single file: write the folder of its pipeline once, as in diffusers.StableDiff",
    ),
    "pipeline without weights": (pipe("no_unet"), UNET % "no_unet"),
    "pipeline of two variants": (pipe("mixed"), UNET % "mixed"),
    "pipeline with pickled weights": (pipe("pickled"), "unet/diffusion_pytorch_model.safetensors (.bin is not read)"),
    "pipeline without tokenizer": (pipe("no_tokenizer"), "it has no vocabulary in tokenizer/"),
    "pipeline without configuration": (pipe("no_config"), "it has no vae/config.json"),
    "pipeline with half an index": (pipe("half_index"), "its model_index.json is damaged"),
    "pipeline without an index": (
        pipe("no_index"),
        "no_index is no pipeline of diffusers, it has no model_index.json",
    ),
    "misspelt scheduler": (
        pipe("no_unet", f"{GENERATOR}.scheduler", "owm"),
        "scheduler is 'owm', but must be of type Literal['auto', 'own'].",
    ),
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, pipeline: Path) -> Path:  # noqa: F811
    """Files and folders with something amiss."""
    folder = tmp_path_factory.mktemp("weights") / "bad"
    folder.mkdir()
    state = CLIPSource("package:datamodules.mini.clip").load().model.state_dict()
    contents = {
        "plain": {"weight": torch.zeros(1)},
        "openai": {name: torch.zeros(1) for name in SIZES},
        "average": {"state_dict_ema": state},
        "two": {"student": state, "teacher": state},
        "tower": {name: tensor for name, tensor in state.items() if name.startswith("visual.")},
        "code": {"state_dict": state, "code": Calls(print, "run")},
    }
    for name, content in contents.items():
        torch.save(content, folder / f"{name}.pt")
    save_file({"weight": torch.zeros(1)}, folder / "laion.safetensors", {"origin": "laion2b_s34b_b79k"})
    (folder / "pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (folder / "empty.pt").touch()
    (folder / "single.safetensors").touch()
    for name in ("no_unet", "mixed", "pickled", "no_tokenizer", "no_config", "half_index", "no_index"):
        shutil.copytree(pipeline, folder / name)
    (folder / "no_unet" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    renamed("fp16", "unet")(folder / "mixed")
    renamed("bf16", "vae")(folder / "mixed")
    weights = folder / "pickled" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    shutil.rmtree(folder / "no_tokenizer" / "tokenizer")
    (folder / "no_config" / "vae" / "config.json").unlink()
    os.truncate(folder / "half_index" / "model_index.json", 50)
    (folder / "no_index" / "model_index.json").unlink()
    return folder


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights_get_one_sentence(case: str, bad: Path, tmp_path: Path) -> None:
    flags, expected = BAD_WEIGHTS[case]
    flags, expected = [flag.replace("{bad}", str(bad)) for flag in flags], expected.replace("{bad}", str(bad))
    status, _, err = call("fit", "--config", CONFIG, "--run.root", str(tmp_path), *flags)
    assert status == 2, err
    assert err.startswith("error: ") and len(err.strip().splitlines()) == 1
    assert expected in err
    assert not (tmp_path / "three_tasks" / "results.json").exists()


NOT_READ = (
    "an average alone",
    "student and teacher",
    "one tower alone",
    "weights with code",
    "a pointer of git",
    "an empty file",
)
"""Doctor loads no weights: only who reads a file sees what is in it."""


@pytest.mark.parametrize("case", [case for case in BAD_WEIGHTS if case not in NOT_READ])
def test_doctor_says_it_before(case: str, bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    flags, expected = BAD_WEIGHTS[case]
    flags, expected = [flag.replace("{bad}", str(bad)) for flag in flags], expected.replace("{bad}", str(bad))
    status, out, err = call("doctor", "--config", CONFIG, "--run.root", str(tmp_path), *flags)
    assert status in (1, 2)
    assert " ".join(expected.split()) in " ".join((out + err).split())
