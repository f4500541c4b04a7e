"""Who trained the weights of a CLIP: it decides the activation and the image preprocessing, and no tensor shows it."""

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
KEY = "origin"
"""Under this name files of this package keep the tag of their origin: in the metadata, or beside the weights."""


class Origin(NamedTuple):
    """Where weights come from.

    Attributes:
        tag: of open_clip; ``None`` where the model itself says activation and preprocessing.
        note: one sentence on how the tag was found, if nobody gave it; empty otherwise.
    """

    tag: str | None = None
    note: str = ""

    @property
    def metadata(self) -> dict[str, str]:
        """What is written into files of weights."""
        return {KEY: self.tag} if self.tag else {}

    @property
    def notes(self) -> list[str]:
        """The note, if there is one."""
        return [self.note] if self.note else []


class _Evidence(NamedTuple):
    tag: str
    reason: str


def tags_of(name: str) -> list[str]:
    """The tags of a model of open_clip; none for folders, packages and models on the hub."""
    return [] if ":" in name else open_clip.list_pretrained_tags_by_model(name.replace("/", "-"))


def settings(name: str, tag: str | None) -> dict[str, Any]:
    """Activation and preprocessing of a model with weights of a tag, as arguments of open_clip; none without a tag."""
    name = name.replace("/", "-")
    config: dict[str, Any] = (open_clip.get_pretrained_cfg(name, tag) if tag else None) or {}
    own = (open_clip.get_model_config(name) or {}) if config else {}
    activation = {"force_quick_gelu": True} if config.get("quick_gelu") and not own.get("quick_gelu") else {}
    usual = vars(PreprocessCfg())
    names = ("mean", "std", "interpolation", "resize_mode")
    return activation | {f"image_{key}": config[key] for key in names if key in config and config[key] != usual[key]}


def find_origin(name: str, pretrained: str | None, weights: str | None, origin: str | None) -> Origin:
    """The origin of weights; the arguments are those of ``gift_lightning.clip.source.CLIPSource``.

    A tag says it, or the argument ``origin``. Of a file it is known by what this package wrote into it, by its place in
    the cache of the hub, by the format of OpenAI's own files, or by its hash. For any other file it is assumed: OpenAI
    if it trained such a model (as the weights of all methods here began), else the only one that there is.

    Raises:
        InputError: ``origin`` is no tag of the model, it contradicts the weights, or it cannot be known.
    """
    tags = tags_of(name)
    if origin is not None and origin not in tags:
        known = f"is not a tag of {name}{nearest(origin, tags)}" if tags else f"is not for {name}, which says it itself"
        raise InputError(f"`model.clip.origin` '{origin}' {known}: give a tag of the model or null.")
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
        found = _recognise(Path(file), name, tags) if file and Path(file).is_file() else None
        if found is None:
            continue
        _check_agreement(f"`model.clip.{key}` {file}", found, name, tag)
        if tag is None:
            tag = found.tag
            note = f"model.clip.{key} {file} has activation and preprocessing of '{tag}', {found.reason}."
    return Origin(tag, note) if tag else _assumed(name, tags, weights if pretrained is None else pretrained)


def _check_agreement(what: str, found: _Evidence, name: str, tag: str | None) -> None:
    if found.tag not in tags_of(name):
        raise InputError(f"{what} is of '{found.tag}', {found.reason}, which is not a tag of {name}: set another name.")
    if tag is not None and settings(name, found.tag) != settings(name, tag):
        raise InputError(
            f"{what} is of '{found.tag}', {found.reason}, and computes otherwise than '{tag}': set"
            " `model.clip.origin` or `model.clip.pretrained` to where it comes from."
        )


def _assumed(name: str, tags: list[str], file: str | None) -> Origin:
    """The origin of a file that nothing tells about."""
    groups: dict[str, str] = {}  # a tag for each way to compute
    for tag in tags:
        groups.setdefault(repr(settings(name, tag)), tag)
    tag = OPENAI if OPENAI in tags else tags[0]
    if tag != OPENAI and len(groups) > 1:
        raise InputError(
            f"{file} does not say who trained it, which decides how a {name} computes: name its tag in"
            f" `model.clip.origin`, e.g. {' or '.join(groups.values())}."
        )
    if len(groups) == 1 and not settings(name, tag):
        return Origin()  # as the architecture has it
    other = next((each for own, each in groups.items() if own != repr(settings(name, tag))), None)
    remedy = f"name its tag in model.clip.origin (e.g. {other})" if other else "give a folder with its own config"
    return Origin(
        tag,
        f"{file} does not say who trained it: activation and preprocessing are those of '{tag}'; if it began otherwise,"
        f" {remedy}.",
    )


# --- what a file tells ------------------------------------------------------------------------------------------------


def _recognise(file: Path, name: str, tags: list[str]) -> _Evidence | None:
    """What is certain about the origin of a file of weights; no tensor is read."""
    written, names = _look(file)
    if written:
        return _Evidence(written, "as it says itself")
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
        found = _sha256(file, stat.st_size, stat.st_mtime_ns)
        return next((_Evidence(tag, "by its SHA-256") for tag in digests if found.startswith(digests[tag])), None)
    return None


def tag_files(name: str, tag: str) -> tuple[str, tuple[str, ...]]:
    """The repository on the hub with the weights of a tag, and the files in it that may hold them, the best first."""
    repository, file = os.path.split(open_clip.get_pretrained_cfg(name.replace("/", "-"), tag)["hf_hub"])
    return repository, (f"{os.path.splitext(file)[0]}.safetensors", file) if file else HUB_WEIGHTS


def _look(file: Path) -> tuple[str | None, frozenset[str]]:
    """The origin that this package wrote into a file, and the names in its state dict."""
    try:
        if is_safetensors(file):
            with safe_open(file, "pt") as opened:
                return (opened.metadata() or {}).get(KEY), frozenset(opened.keys())
        if is_torchscript(file):
            return None, SIZES  # in this form OpenAI's files come
        content = read_file(file, "meta")
        written = content.get(KEY) if isinstance(content, Mapping) else None
        return written if isinstance(written, str) else None, frozenset(state_in(content))
    except (InputError, SafetensorError, OSError):
        return None, frozenset()  # what is amiss is said where its weights are read


def _published_digest(name: str, tag: str) -> str:
    """The first digits, or all, of the SHA-256 of the file of a tag at its first address, as open_clip checks them."""
    url: str = open_clip.get_pretrained_cfg(name.replace("/", "-"), tag)["url"]
    if "openaipublic" in url:
        return url.split("/")[-2]
    return url.rpartition("-")[2].partition(".")[0] if "mlfoundations" in url else ""


@lru_cache
def _sha256(file: Path, size: int, changed: int) -> str:
    return file_hash(file, "sha256")
