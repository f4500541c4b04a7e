"""Where a CLIP comes from: open_clip's own models and tags, model folders, packages, the Hugging Face hub, files."""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
from huggingface_hub import model_info
from torch import Tensor, nn

from gift_lightning.clip.origin import Origin, find_origin, settings, tag_files, tags_of
from gift_lightning.clip.weights import load_weights
from gift_lightning.errors import InputError, first_line, nearest
from gift_lightning.files import package_file
from gift_lightning.hub import HOW_TO_FETCH, HUB_CONFIG, HUB_WEIGHTS, cached_file, is_offline

_HUB_SECONDS = 10.0


class Parts(NamedTuple):
    """What a CLIP is made of."""

    model: nn.Module
    train_transform: Callable[[Any], Tensor]
    test_transform: Callable[[Any], Tensor]
    tokenizer: Callable[[list[str]], Tensor]
    origin: Origin


def open_parts(name: str, pretrained: str | None, weights: str | None, origin: str | None = None) -> Parts:
    """The parts of a CLIP in float32 on the CPU; the arguments are those of ``gift_lightning.clip.source.CLIPSource``.

    Raises:
        InputError: no such model, weights that are missing, cannot be downloaded, or do not fit the model.
    """
    source, found = check(name, pretrained, weights), find_origin(name, pretrained, weights, origin)
    if source.startswith("hf-hub:"):
        _check_hub(source.removeprefix("hf-hub:"), needs_weights=pretrained is None and weights is None)
    is_tag = pretrained is not None and pretrained in tags_of(source)
    file = weights or (None if is_tag else pretrained)
    of_tag = _tag_file(source, pretrained or "") if is_tag and file is None else None
    try:
        with _quiet():
            # a folder or a hub id has weights of its own; open_clip would only warn if it found none
            own = file is None and of_tag is None
            model, train_transform, test_transform = open_clip.create_model_and_transforms(
                source, load_weights=own, require_pretrained=own, pretrained_text=own, **settings(name, found.tag)
            )
            if of_tag is not None:
                open_clip.load_checkpoint(model, of_tag)
            tokenizer = open_clip.get_tokenizer(source, **_tokenizer_files(source))
    except Exception as error:  # of many kinds: no network, a damaged file
        raise InputError(f"CLIP '{name}' cannot be loaded: {first_line(error)}") from error
    if file is not None:
        load_weights(model, Path(file))
    return Parts(model, train_transform, test_transform, tokenizer, found)


def check(name: str, pretrained: str | None, weights: str | None) -> str:
    """The name as open_clip takes it; the arguments are those of ``gift_lightning.clip.source.CLIPSource``.

    Raises:
        InputError: no such model, no such tag of it, or a file that is missing.
    """
    # importing the package may register the model's vision tower with timm
    name = f"local-dir:{package_file(name, 'model.clip.name')}" if name.startswith("package:") else name
    if weights is not None and not Path(weights).is_file():
        raise InputError(f"`model.clip.weights` '{weights}' {_not_a_file(weights)}: give a weights file or null.")
    is_missing = pretrained is not None and weights is None and not Path(pretrained).is_file()
    if ":" in name:
        folder = Path(name.removeprefix("local-dir:"))
        if name.startswith("local-dir:") and not (folder / HUB_CONFIG).is_file():
            raise InputError(f"`model.clip.name` is '{name}', but there is no {folder / HUB_CONFIG}.")
        if is_missing:
            told = _not_a_file(str(pretrained))
            raise InputError(f"`model.clip.pretrained` '{pretrained}' {told}: give a weights file or null.")
        return name
    known, name = open_clip.list_models(), name.replace("/", "-")
    if name not in known:
        raise InputError(f"`model.clip.name` '{name}' is not a model of open_clip{nearest(name, known)}.")
    tags = tags_of(name)
    if pretrained is None and weights is None:
        raise InputError(
            f"`model.clip.pretrained` is not set: give a weights file or a tag of {name} ({', '.join(tags[:6])})."
        )
    if is_missing and pretrained not in tags:
        hint = nearest(str(pretrained), tags)
        raise InputError(f"`model.clip.pretrained` '{pretrained}' is neither a file nor a tag of {name}{hint}.")
    return name


def _not_a_file(name: str) -> str:
    return "is a folder" if Path(name).is_dir() else "does not exist"


def _tokenizer_files(name: str) -> dict[str, str]:
    """A merges file named in the config of a model folder lies in that folder."""
    if not name.startswith("local-dir:"):
        return {}
    folder = Path(name.removeprefix("local-dir:"))
    config = json.loads((folder / HUB_CONFIG).read_text())
    merges = config["model_cfg"]["text_cfg"].get("tokenizer_kwargs", {}).get("bpe_path")
    return {"bpe_path": str(folder / merges)} if merges else {}


# --- the hub ----------------------------------------------------------------------------------------------------------


def _tag_file(name: str, tag: str) -> str:
    """The weights file of a tag: in the cache of the hub, or downloaded into it."""
    repository, files = tag_files(name, tag)
    try:
        if (path := _cached(repository, files)) is None:
            _ask(repository)
            path = open_clip.download_pretrained(open_clip.get_pretrained_cfg(name.replace("/", "-"), tag))
        return path
    except Exception as error:  # of many kinds
        raise InputError(
            f"`model.clip.pretrained` '{tag}' {_absent(error)}, or get {files[0]} from https://huggingface.co/{repository}"
            " by other means and name the file as `model.clip.weights`."
        ) from error


def _check_hub(repository: str, needs_weights: bool) -> None:
    try:
        if not _cached(repository, (HUB_CONFIG,)) or (needs_weights and not _cached(repository, HUB_WEIGHTS)):
            _ask(repository)
    except Exception as error:  # of many kinds
        raise InputError(
            f"`model.clip.name` 'hf-hub:{repository}' {_absent(error)}, or get {HUB_CONFIG} and {HUB_WEIGHTS[0]} from"
            f" https://huggingface.co/{repository} by other means and name their folder:"
            " `model.clip.name` local-dir:FOLDER."
        ) from error


def _cached(repository: str, files: tuple[str, ...]) -> str | None:
    """The first of ``files`` that was downloaded before."""
    found = (cached_file(repository, file) for file in files)
    return next((str(path) for path in found if path), None)


def _ask(repository: str) -> None:
    """Ask the hub for a repository, once: a download would go on asking for a minute if there is no network."""
    model_info(repository, timeout=_HUB_SECONDS)


def _absent(error: Exception) -> str:
    """What is amiss with something that is not in the cache, and what to do."""
    if is_offline():
        return f"is not on this machine: {HOW_TO_FETCH}"
    return f"is not on this machine and cannot be downloaded ({first_line(error).rstrip('.')}): try again"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what open_clip says of models that it makes without weights, and of errors that it raises anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
