"""Weights files as OpenAI, open_clip and the authors of methods write them, and those that cannot be taken."""

import os
import pickle
import re
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import huggingface_hub
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gift_lightning.clip.source import CLIPSource
from gift_lightning.clip.torchscript import is_torchscript, read_torchscript
from gift_lightning.clip.weights import load_weights, openai_names, read_file, weights_in
from gift_lightning.clip.weights_source import CLIPWeights
from gift_lightning.errors import InputError
from tests.gift_lightning.test_files import Calls

VISION = {"image_size": 32, "patch_size": 8, "width": 64, "head_width": 64, "layers": 2}
TEXT = {"context_length": 20, "vocab_size": 500, "width": 64, "heads": 1, "layers": 1}
SIZES = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(20), "vocab_size": torch.tensor(500)}


def small(custom_text: bool = False, seed: int = 0, quick_gelu: bool = True, **vision: Any) -> nn.Module:
    """A small model of open_clip with heads of 64 channels, as OpenAI's; with its text tower in ``text`` if custom."""
    torch.manual_seed(seed)
    kind = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    return kind(32, {**VISION, **vision}, TEXT, quick_gelu=quick_gelu)


def features(model: Any) -> list[Tensor]:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    tokens = torch.tensor([[1, 5, 499] + [0] * 17, [1, 9, 7, 8, 499] + [0] * 15])
    with torch.no_grad():
        return [model.encode_image(images), model.encode_text(tokens)]


# --- what files look like ---------------------------------------------------------------------------------------------


def plain(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path)


def authors(state: dict[str, Tensor], path: Path) -> None:
    optimizer = torch.optim.AdamW(small().parameters())
    everything = {"iteration": 1000, "state_dict": state, "optimizer": optimizer.state_dict(), "best": 71.5}
    torch.save({**everything, "args": Namespace(lr=1e-5, data="/data/sets", train=["a"])}, path)


def parallel(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)


def wrapped(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"state_dict": {f"module.model.{name}": tensor for name, tensor in state.items()}}, path)


def with_sizes(state: dict[str, Tensor], path: Path) -> None:
    torch.save({**state, **SIZES}, path)


def half(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"state_dict": {name: tensor.half() for name, tensor in state.items()}}, path)


def before_1_6(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)


def run(state: dict[str, Tensor], path: Path) -> None:
    own = {f"clip.model.{name}": tensor for name, tensor in state.items()}
    torch.save(
        {"state_dict": {**own, **{f"teacher.module.{name}": 0 * tensor for name, tensor in state.items()}}}, path
    )


def compiled(state: dict[str, Tensor], path: Path) -> None:
    torch.save({f"_orig_mod.{name}": tensor for name, tensor in state.items()}, path)


def compiled_in_parallel(state: dict[str, Tensor], path: Path) -> None:
    own = {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": own, "scaler": {"scale": 65536.0}}, path)


def tower_compiled(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"model": {re.sub(r"^visual\.", "visual._orig_mod.", name): t for name, t in state.items()}}, path)


def nested(state: dict[str, Tensor], path: Path) -> None:
    own = {f"net.clip_model.{name}": tensor for name, tensor in state.items()}
    torch.save({"epoch": 1, "model": {"config": {"width": 64}, "model_state_dict": own}}, path)


def network(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"net": state, "acc": 71.5, "epoch": 3}, path)


def with_average(state: dict[str, Tensor], path: Path) -> None:
    average = {name: 0 * tensor for name, tensor in state.items()}
    torch.save({"model_ema": average, "state_dict_ema": average, "model": state, "optimizer": {}}, path)


def with_numbers(state: dict[str, Tensor], path: Path) -> None:
    torch.save({**state, "epoch": 3, "name": "ViT"}, path)


WRAPPED = [compiled, compiled_in_parallel, tower_compiled, nested, network, with_average, with_numbers]
FILES = [plain, authors, parallel, wrapped, with_sizes, half, before_1_6, run, *WRAPPED]


@pytest.mark.parametrize("custom_text", [False, True])
@pytest.mark.parametrize("write", FILES)
def test_a_file_of_any_form_gives_the_same_model(write: Callable[..., None], custom_text: bool, tmp_path: Path) -> None:
    source, model = small(seed=7), small(custom_text=custom_text)
    if write is half:
        source.half().float()
    write(source.state_dict(), tmp_path / "model.pth")
    load_weights(model, tmp_path / "model.pth")
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    for ours, theirs in zip(features(model), features(source), strict=True):
        assert torch.equal(ours, theirs)


# --- OpenAI's archives ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As OpenAI's download: a traced model in half precision, with the three sizes among its buffers."""
    model: Any = small(seed=7).half().float()
    for name, size in SIZES.items():
        vars(model).pop(name, None)
        model.register_buffer(name, size)
    path = tmp_path_factory.mktemp("archive") / "ViT-S-8.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = {"encode_image": (torch.zeros(1, 3, 32, 32),), "encode_text": (torch.zeros(1, 20, dtype=torch.long),)}
        torch.jit.trace_module(model, shapes).half().save(str(path))
    return path


def test_an_archive_is_read_as_torch_would_and_no_code_is_run(archive: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = torch.jit.load(archive).state_dict()
    ours = read_torchscript(archive)
    assert is_torchscript(archive)
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        assert ours[name].dtype == tensor.dtype and torch.equal(ours[name], tensor), name


def test_an_archive_gives_the_model(archive: Path) -> None:
    model = small()
    load_weights(model, archive)
    for ours, theirs in zip(features(model), features(small(seed=7).half().float()), strict=True):
        assert torch.equal(ours, theirs)


def test_an_archive_with_code_of_python_is_refused(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            code = pickle.dumps({"weight": Calls(os.mkdir, str(tmp_path / "made"))}, 2)
            new.writestr(name, code if name.endswith("/data.pkl") else old.read(name))
    with pytest.raises(
        InputError, match=r"bad.pt holds more than weights, and to read it would run code \(\w+\.mkdir\)"
    ):
        load_weights(small(), path)
    assert not (tmp_path / "made").exists()


# --- a whole ViT-B/16 of OpenAI, whatever way it comes ----------------------------------------------------------------


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Tensor]]:
    """A file in half precision, and the features of images and texts of its weights with OpenAI's activation."""
    torch.manual_seed(0)
    reference: Any = open_clip.create_model("ViT-B-16-quickgelu", load_weights=False)
    path = tmp_path_factory.mktemp("vit") / "ViT-B-16.pth"
    state = {name: tensor.half() for name, tensor in reference.state_dict().items()}
    torch.save({"state_dict": {**state, "input_resolution": torch.tensor(224)}}, path)
    reference.load_state_dict(state)
    return path, vit_features(reference)


def vit_features(model: Any) -> list[Tensor]:
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    tokens = open_clip.get_tokenizer("ViT-B-16")(["a photo of a cat", "a small bird, a type of bird"])
    with torch.no_grad():
        return [model.encode_image(images, normalize=True), model.encode_text(tokens, normalize=True)]


def check_vit(source: CLIPSource, expected: list[Tensor]) -> None:
    clip = source.load()
    assert all(parameter.dtype == torch.float32 for parameter in clip.parameters())
    for ours, theirs in zip(vit_features(clip.model), expected, strict=True):
        assert (ours - theirs).abs().max() < 1e-5


def test_a_file_of_openai_has_its_activation(vit: tuple[Path, list[Tensor]]) -> None:
    path, expected = vit
    check_vit(CLIPSource("ViT-B-16", str(path)), expected)


def test_a_tag_in_the_cache_needs_no_network(
    vit: tuple[Path, list[Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, expected = vit
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "models--timm--vit_base_patch16_clip_224.openai"
    (cache / "snapshots" / "abc").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    save_file(weights_in(read_file(path)), cache / "snapshots" / "abc" / "open_clip_model.safetensors")
    check_vit(CLIPSource("ViT-B-16", "openai"), expected)


def test_a_tag_that_the_cache_lacks_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an outline of the model, whose parameters are counted."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    built, load = [], CLIPSource.load
    monkeypatch.setattr(CLIPSource, "load", lambda source: built.append(source) or load(source))  # type: ignore[func-returns-value]
    weights = CLIPWeights(CLIPSource("ViT-B-16", "openai"))
    assert [weights.inspect().bytes for _ in range(3)] == 3 * [4 * 149_620_737] and len(built) == 1


# --- what cannot be taken ---------------------------------------------------------------------------------------------


def without(state: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name not in names}


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "missing weights": (
        lambda: without(small().state_dict(), "visual.proj", "ln_final.bias"),
        "does not fit the model: it lacks 2 of 50 tensors, the first is visual.proj; give weights of this model",
    ),
    "another architecture": (
        lambda: small(patch_size=4).state_dict(),
        "does not fit the model: visual.positional_embedding has the shape [65, 64] and not [17, 64]; give",
    ),
    "more layers": (
        lambda: small(layers=3).state_dict(),
        "it has 12 tensors that the model has not, the first is visual.transformer.resblocks.2.ln_1.weight; give",
    ),
    "no weights": (
        lambda: {"epoch": 3},
        "holds no weights: give a state dict, plain or under 'state_dict' or 'model'.",
    ),
    "no dict": (lambda: [torch.zeros(1)], "holds no weights"),
    "empty": (lambda: {"state_dict": {}}, "holds no weights"),
    "an average alone": (lambda: {"epoch": 3, "state_dict_ema": small().state_dict()}, "holds no weights"),
    "two models": (lambda: {"student": small().state_dict(), "teacher": small().state_dict()}, "holds no weights"),
    "an image tower alone": (
        lambda: {name: tensor for name, tensor in small().state_dict().items() if name.startswith("visual.")},
        "it lacks 18 of 50 tensors, the first is positional_embedding; give",
    ),
    "code": (
        lambda: {"state_dict": small().state_dict(), "code": Calls(print, "run")},
        "holds more than weights, and to read it would run code (print): save the weights alone, as in",
    ),
    "a whole model": (lambda: small(), "holds more than weights, and to read it would run code (open_clip.model.CLIP)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_cannot_be_taken_is_told_in_one_sentence(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, expected = REFUSED[case]
    path = tmp_path / "model.pth"
    torch.save(make(), path)
    with pytest.raises(InputError) as told:
        load_weights(small(), path)
    assert str(told.value).startswith(f"Weights file {path} ") and expected in str(told.value)
    assert "\n" not in str(told.value) and "run" not in capsys.readouterr().out


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_flipped_bit_is_seen_by_the_checksum_beside_it(place: float, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"state_dict": small().state_dict()}, path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read: it is damaged"):
        load_weights(small(), path)


# --- what is not on the machine ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            CLIPSource("ViT-B-16", "openai"),
            "pretrained 'openai' is not on this machine: fetch it with 'python -m gift_lightning doctor"
            " --config FILE --download', or get open_clip_model.safetensors from"
            " https://huggingface.co/timm/vit_base_patch16_clip_224.openai by other means and name the file with"
            " --model.clip.weights.",
        ),
        (
            CLIPSource("hf-hub:laion/CLIP-ViT-B-16"),
            "name 'hf-hub:laion/CLIP-ViT-B-16' is not on this machine: fetch it with 'python -m"
            " gift_lightning doctor --config FILE --download', or get open_clip_config.json and"
            " open_clip_model.safetensors from https://huggingface.co/laion/CLIP-ViT-B-16 by other means and name their"
            " folder with"
            " --model.clip.name local-dir:FOLDER.",
        ),
    ],
)
def test_without_a_network_the_file_to_fetch_is_named_at_once(
    source: CLIPSource, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    begin = monotonic()
    with pytest.raises(InputError) as told:
        source.load()
    assert str(told.value) == expected
    assert monotonic() - begin < 5


# --- for OpenAI's code ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("custom_text", [False, True])
def test_names_of_openai_are_what_openai_loads(custom_text: bool) -> None:
    model = small(custom_text=custom_text)
    theirs = open_clip.model.build_model_from_openai_state_dict(openai_names(model)).float()
    for ours, other in zip(features(model), features(theirs), strict=True):
        assert (ours - other).abs().max() < 1e-2  # theirs were rounded to half precision


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lambda: small(head_width=32), "its attention heads have 64 channels"),
        (lambda: small(quick_gelu=False), "it computes with QuickGELU"),
        (lambda: CLIPSource("package:datamodules.mini.clip").load().model, r"it has no visual\.trunk\.\S+"),
    ],
)
def test_a_model_that_openai_has_not_is_refused(model: Callable[[], nn.Module], expected: str) -> None:
    with pytest.raises(InputError, match=rf"OpenAI's code has no such CLIP \({expected}.*ends in .safetensors\.$"):
        openai_names(model())
