"""The origin of a CLIP's weights, which decides its activation and image preprocessing; no tensor shows it."""

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
from open_clip.transform import PreprocessCfg
from safetensors import SafetensorError, safe_open

from gift_lightning.clip.torchscript import is_torchscript
from gift_lightning.clip.weights import SIZES, is_safetensors, read_file, state_in
from gift_lightning.errors import InputError, nearest
from gift_lightning.files import file_hash
from gift_lightning.hub import HUB_WEIGHTS

OPENAI = "openai"
"""The open_clip tag of OpenAI's weights."""

KEY = "origin"
"""The key of the origin's tag in files of this package: in the metadata, or beside the weights."""


class Origin(NamedTuple):
    """The training run that weights are from, by its open_clip tag.

    Attributes:
        tag: of open_clip; ``None`` if the model's config has activation and preprocessing.
        note: one sentence on how the tag was recognised; empty for a given tag.
    """

    tag: str | None = None
    note: str = ""

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata for files of weights."""
        return {KEY: self.tag} if self.tag else {}

    @property
    def notes(self) -> list[str]:
        """The note in a list, which is empty without one."""
        return [self.note] if self.note else []


class _Evidence(NamedTuple):
    tag: str
    reason: str


def tags_of(name: str) -> list[str]:
    """The tags of an open_clip model; empty for folders, packages and models on the hub."""
    return [] if ":" in name else open_clip.list_pretrained_tags_by_model(name.replace("/", "-"))


def settings(name: str, tag: str | None) -> dict[str, Any]:
    """Activation and preprocessing of a model with a tag's weights, as arguments of open_clip; empty without a tag."""
    name = name.replace("/", "-")
    config: dict[str, Any] = (open_clip.get_pretrained_cfg(name, tag) if tag else None) or {}
    model = (open_clip.get_model_config(name) or {}) if config else {}
    activation = {"force_quick_gelu": True} if config.get("quick_gelu") and not model.get("quick_gelu") else {}
    usual = vars(PreprocessCfg())
    names = ("mean", "std", "interpolation", "resize_mode")
    return activation | {f"image_{key}": config[key] for key in names if key in config and config[key] != usual[key]}


def find_origin(name: str, pretrained: str | None, weights: str | None, origin: str | None) -> Origin:
    """The origin of weights; the arguments are those of ``gift_lightning.clip.source.CLIPSource``.

    It is a tag in ``pretrained`` or ``origin``. A file shows it by metadata of this package, by its folder in the cache
    of the hub, by the format of OpenAI's files, or by its hash. For any other file the origin is assumed: OpenAI for a
    model that OpenAI trained (as the weights of all papers here), else the model's only origin.

    Raises:
        InputError: ``origin`` is no tag of the model or contradicts the weights, or a file could have several origins.
    """
    tags = tags_of(name)
    if origin is not None and origin not in tags:
        fault = f"is not a tag of {name}{nearest(origin, tags)}" if tags else f"is not for {name}, whose config has it"
        raise InputError(f"`model.clip.origin` '{origin}' {fault}: give a tag of the model or null.")
    if not tags:
        return Origin()
    is_tag = pretrained in tags
    if is_tag and origin not in (None, pretrained):
        raise InputError(
            f"`model.clip.origin` is '{origin}', but `model.clip.pretrained` names the weights of '{pretrained}':"
            " set it to null."
        )
    tag, note = pretrained if is_tag else origin, ""
    for key, file in {"pretrained": None if is_tag else pretrained, "weights": weights}.items():
        evidence = _recognise(Path(file), name, tags) if file and Path(file).is_file() else None
        if evidence is None:
            continue
        _check_agreement(f"`model.clip.{key}` {file}", evidence, name, tag)
        if tag is None:
            tag = evidence.tag
            note = f"model.clip.{key} {file} has activation and preprocessing of '{tag}', {evidence.reason}."
    return Origin(tag, note) if tag else _assumed(name, tags, weights if pretrained is None else pretrained)


def _check_agreement(setting: str, evidence: _Evidence, name: str, tag: str | None) -> None:
    if evidence.tag not in tags_of(name):
        raise InputError(
            f"{setting} is of '{evidence.tag}', {evidence.reason}, which is not a tag of {name}: set another name."
        )
    if tag is not None and settings(name, evidence.tag) != settings(name, tag):
        raise InputError(
            f"{setting} is of '{evidence.tag}', {evidence.reason}, and computes otherwise than '{tag}': set"
            " `model.clip.origin` or `model.clip.pretrained` to its origin."
        )


def _assumed(name: str, tags: list[str], file: str | None) -> Origin:
    """The origin of a file without evidence."""
    groups: dict[str, str] = {}  # a tag for each way to compute
    for tag in tags:
        groups.setdefault(repr(settings(name, tag)), tag)
    tag = OPENAI if OPENAI in tags else tags[0]
    if tag != OPENAI and len(groups) > 1:
        raise InputError(
            f"{file} does not show its origin, which decides how a {name} computes: name its tag in"
            f" `model.clip.origin`, e.g. {' or '.join(groups.values())}."
        )
    if len(groups) == 1 and not settings(name, tag):
        return Origin()  # the defaults of the architecture
    other = next((each for values, each in groups.items() if values != repr(settings(name, tag))), None)
    remedy = f"name its tag in model.clip.origin (e.g. {other})" if other else "give a folder with its config"
    return Origin(
        tag,
        f"{file} does not show its origin: activation and preprocessing are those of '{tag}'; for weights of another"
        f" origin, {remedy}.",
    )


# --- evidence in a file -----------------------------------------------------------------------------------------------


def _recognise(file: Path, name: str, tags: list[str]) -> _Evidence | None:
    """The certain origin of a file of weights, ``None`` without evidence; no tensor is read."""
    written, names = _look(file)
    if written:
        return _Evidence(written, "by its metadata")
    for folder in file.absolute().parts + file.resolve().parts:
        for tag in tags:
            repository, files = tag_files(name, tag)
            if folder == f"models--{repository.replace('/', '--')}" and file.name in files:
                return _Evidence(tag, "by its place in the cache of the Hugging Face hub")
    if OPENAI in tags and names >= SIZES:
        return _Evidence(OPENAI, "by its format, which only OpenAI's files have")
    digests = {tag: digest for tag in tags if (digest := _published_digest(name, tag))}
    if digests:
        stat = file.stat()
        digest = _sha256(file, stat.st_size, stat.st_mtime_ns)
        return next((_Evidence(tag, "by its SHA-256") for tag in digests if digest.startswith(digests[tag])), None)
    return None


def tag_files(name: str, tag: str) -> tuple[str, tuple[str, ...]]:
    """The repository on the hub with the weights of a tag, and the possible names of their file, the best first."""
    repository, file = os.path.split(open_clip.get_pretrained_cfg(name.replace("/", "-"), tag)["hf_hub"])
    return repository, (f"{os.path.splitext(file)[0]}.safetensors", file) if file else HUB_WEIGHTS


def _look(file: Path) -> tuple[str | None, frozenset[str]]:
    """The origin that this package wrote into a file, and the names in its state dict."""
    try:
        if is_safetensors(file):
            with safe_open(file, "pt") as opened:
                return (opened.metadata() or {}).get(KEY), frozenset(opened.keys())
        if is_torchscript(file):
            return None, SIZES  # the form of OpenAI's files
        content = read_file(file, "meta")
        written = content.get(KEY) if isinstance(content, Mapping) else None
        return written if isinstance(written, str) else None, frozenset(state_in(content))
    except (InputError, SafetensorError, OSError):
        return None, frozenset()  # the error is raised when its weights are read


def _published_digest(name: str, tag: str) -> str:
    """The first digits, or all, of the SHA-256 of the file of a tag at its first address, as open_clip checks them."""
    url: str = open_clip.get_pretrained_cfg(name.replace("/", "-"), tag)["url"]
    if "openaipublic" in url:
        return url.split("/")[-2]
    return url.rpartition("-")[2].partition(".")[0] if "mlfoundations" in url else ""


@lru_cache
def _sha256(file: Path, size: int, changed: int) -> str:
    return file_hash(file, "sha256")
