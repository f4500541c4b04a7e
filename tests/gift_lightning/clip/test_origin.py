"""Whose weights a file holds: activation and preprocessing follow from it, and a file hardly ever says it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.pretrained import _PRETRAINED, _pcfg
from safetensors.torch import load_file, save_file
from torch import Tensor

from gift_lightning.clip.source import CLIPSource
from gift_lightning.clip.weights import SIZES
from gift_lightning.errors import InputError
from tests.e2e.conftest import call, fit_here, read_results

NAME = "small-of-several-origins"
HALF = (0.5, 0.5, 0.5)
RELEASE = "https://github.com/mlfoundations/open_clip/releases/download/v0.2-weights/small-quickgelu-{}.pt"
ARCHIVE = "https://openaipublic.azureedge.net/clip/models/{}/Small.pt"


@pytest.fixture(scope="module", autouse=True)
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """A small model of open_clip that is known by name, with tags of three ways to compute; its weights."""
    tower = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    config = tmp_path_factory.mktemp("config") / f"{NAME}.json"
    config.write_text(json.dumps({"embed_dim": 16, "vision_cfg": tower, "text_cfg": text}))
    open_clip.add_model_config(config)
    _PRETRAINED[NAME] = {
        "openai": _pcfg(ARCHIVE.format("0" * 64), "timm/small.openai/", quick_gelu=True),
        "laion": _pcfg("", "laion/small/weights.bin"),
        "half": _pcfg("", "laion/small/half.bin", mean=HALF, std=HALF),
        "quick": _pcfg(RELEASE.format("0" * 8), quick_gelu=True, mean=HALF),
    }
    torch.manual_seed(0)
    return open_clip.create_model(NAME).state_dict()


def settings(**source: Any) -> dict[str, Any]:
    return CLIPSource(NAME, **{key: str(value) for key, value in source.items()}).settings()


QUICK = {"force_quick_gelu": True}


def test_a_file_that_shows_nothing_is_taken_for_openai_unless_its_origin_is_given(
    model: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "file.pt"
    torch.save(model, file)
    assumed = CLIPSource(NAME, str(file))
    assert assumed.settings() == QUICK
    (note,) = assumed.load().origin.notes
    assert note == (
        f"{file} does not show its origin: activation and preprocessing are those of 'openai'; for weights"
        " of another origin, name its tag in model.clip.origin (e.g. laion)."
    )
    assert CLIPSource(NAME, weights=str(file)).notes() == [note]
    assert not CLIPSource(NAME, "opnai").notes() and not CLIPSource(NAME).notes()  # no files
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = {}
    for origin in ("openai", "laion", "half"):
        clip = CLIPSource(NAME, str(file), origin=origin).load()
        assert not clip.origin.notes and clip.origin.tag == origin
        assert (clip.test_transform.transforms[-1].mean == HALF) == (origin == "half")  # type: ignore[attr-defined]
        with torch.no_grad():
            features[origin] = clip.encode_image(images)
    with torch.no_grad():
        assert torch.equal(features["openai"], assumed.load().encode_image(images))
    assert torch.equal(features["laion"], features["half"])
    assert (features["openai"] - features["laion"]).abs().max() > 1e-4


def test_the_weights_file_keeps_what_pretrained_says(model: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "file.pt"
    torch.save(model, file)
    half = {"image_mean": HALF, "image_std": HALF}
    assert settings(pretrained="half", weights=file) == half
    assert settings(pretrained=file, weights=file, origin="half") == half
    assert settings(weights=file, origin="laion") == {}


def in_the_cache(state: dict[str, Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    blob, link = folder / "models--laion--small" / "blobs" / "0", folder / "models--laion--small" / "snapshots" / "c"
    blob.parent.mkdir(parents=True)
    link.mkdir(parents=True)
    torch.save(state, blob)
    (link / "half.bin").symlink_to(blob)
    return link / "half.bin"


def by_its_full_hash(state: dict[str, Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.save(state, folder / "half.pt")  # whatever its name is
    digest = hashlib.sha256((folder / "half.pt").read_bytes()).hexdigest()
    monkeypatch.setitem(_PRETRAINED[NAME], "half", _pcfg(ARCHIVE.format(digest), mean=HALF, std=HALF))
    return folder / "half.pt"


def by_the_hash_of_a_release(state: dict[str, Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.save({"state_dict": state}, folder / "any.pt")
    digest = hashlib.sha256((folder / "any.pt").read_bytes()).hexdigest()
    monkeypatch.setitem(_PRETRAINED[NAME], "half", _pcfg(RELEASE.format(digest[:8]), mean=HALF, std=HALF))
    return folder / "any.pt"


def with_metadata(state: dict[str, Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_file(state, folder / "task03.safetensors", {"origin": "half"})
    return folder / "task03.safetensors"


def of_a_checkpoint(state: dict[str, Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    own = {f"clip.model.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": own, "origin": "half"}, folder / "last.ckpt")
    return folder / "last.ckpt"


FOUND = [in_the_cache, by_its_full_hash, by_the_hash_of_a_release, with_metadata, of_a_checkpoint]


@pytest.mark.parametrize("write", FOUND)
def test_a_file_whose_origin_is_certain_computes_as_it_was_trained(
    write: Callable[..., Path], model: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(model, tmp_path, monkeypatch)
    half = {"image_mean": HALF, "image_std": HALF}
    for key in ("pretrained", "weights"):
        source = CLIPSource(NAME, **{key: str(file)})
        assert source.settings() == half
        (note,) = source.load().origin.notes
        assert note.startswith(f"model.clip.{key} {file} has activation and preprocessing of 'half', ")
    assert settings(pretrained=file, origin="half") == half
    for wrong in ({"pretrained": file, "origin": "laion"}, {"pretrained": "openai", "weights": file}):
        with pytest.raises(InputError, match=r"is of 'half', .*, and computes otherwise than"):
            settings(**wrong)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".ckpt"])
def test_the_format_of_openai_is_that_of_openai(suffix: str, model: dict[str, Tensor], tmp_path: Path) -> None:
    state, file = model | {name: torch.tensor(1) for name in SIZES}, tmp_path / f"file{suffix}"
    if suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, file)
    source = CLIPSource(NAME, str(file))
    assert source.settings() == QUICK and "by its format" in source.load().origin.note
    with pytest.raises(InputError, match="is of 'openai', by its format, which only OpenAI's files have, and computes"):
        settings(pretrained=file, origin="laion")


def test_an_origin_that_cannot_be_is_told_in_one_sentence(model: dict[str, Tensor], tmp_path: Path) -> None:
    file, written = tmp_path / "file.pt", tmp_path / "written.safetensors"
    torch.save(model, file)
    save_file(model, written, {"origin": "another"})
    cases = [
        (CLIPSource(NAME, str(file), origin="lion"), "origin 'lion' is not a tag of small.* (did you mean 'laion'?)"),
        (CLIPSource(NAME, "openai", origin="laion"), "names the weights of 'openai': set it to null"),
        (CLIPSource("package:datamodules.mini.clip", origin="openai"), "is not for package:datamodules.mini.clip"),
        (CLIPSource(NAME, str(written)), "is of 'another', by its metadata, which is not a tag of small"),
        (CLIPSource("ViT-H-14", str(file)), "name its tag in origin, e.g. laion2b_s32b_b79k or metaclip"),
        (CLIPSource("ViT-bigG-14", None, str(file)), "e.g. laion2b_s39b_b160k or metaclip_fullcc."),
    ]
    for source, expected in cases:
        for ask in (source.check, source.load):
            with pytest.raises(InputError) as told:
                ask()
            assert all(part in str(told.value) for part in expected.split(".*")) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "expected", "notes"),
    [
        ("ViT-B-32", QUICK, 1),
        ("ViT-L-14", QUICK, 1),
        ("ViT-L-14-336", QUICK, 1),
        ("ViT-B-32-quickgelu", {}, 0),
        ("ViT-L-14-280", {}, 0),
        ("ViT-S-16", {}, 0),
        ("MobileCLIP-B", {"image_mean": (0.0,) * 3, "image_std": (1.0,) * 3, "image_interpolation": "bilinear"}, 1),
        ("ViTamin-B", {}, 0),
    ],
)
def test_models_by_name_have_what_their_tags_say(
    name: str, expected: dict[str, Any], notes: int, tmp_path: Path
) -> None:
    torch.save({}, tmp_path / "file.pt")
    source = CLIPSource(name, str(tmp_path / "file.pt"))
    assert source.settings() == expected
    assert len(source.notes()) == notes


def test_a_run_says_what_it_took_and_writes_it_into_its_files(model: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "file.pt"
    torch.save(model, file)
    flags = ["--model.clip.name", NAME, "--model.clip.pretrained", str(file), "--model.lr", "1e-3", "--data.steps", "1"]
    flags += ["--model.warmup_steps", "0"]
    flags += ["--data.tasks", "[{class_path: datamodules.mini.Flags, init_args: {train_size: 16, test_size: 4}}]"]
    expected = f"note: {file} does not show its origin: activation and preprocessing are those of 'openai'; for"
    status, _, err = fit_here(tmp_path, *flags)
    assert status == 0 and err.startswith(expected)
    run = tmp_path / "three_tasks"
    assert any(f"note: {sentence}".startswith(expected) for sentence in read_results(run)["notes"])
    config = ["--config", str(run / "config.yaml")]
    assert expected in call("doctor", *config)[2]

    out = {suffix: tmp_path / f"out{suffix}" for suffix in (".safetensors", ".pth")}
    for path in out.values():
        assert call("export", "--run", str(run), "--out", str(path))[0] == 0
    assert torch.load(out[".pth"], weights_only=True).keys() == {"state_dict", "origin"}
    file.rename(tmp_path / "elsewhere.pt")
    for path in (run / "checkpoints" / "task01.safetensors", run / "checkpoints" / "last.ckpt", *out.values()):
        again = CLIPSource(NAME, str(path))
        assert again.settings() == QUICK and "by its metadata" in again.load().origin.note
    assert load_file(out[".safetensors"]).keys() == model.keys()

    laion = [*config, "--run.name", "laion", "--model.clip.pretrained", str(tmp_path / "elsewhere.pt")]
    status, _, err = call("fit", *laion, "--model.clip.origin", "laion")
    assert status == 0 and "note:" not in err
    results = read_results(tmp_path / "laion")
    assert results["notes"] == [] and results["zero_shot"] is not None
