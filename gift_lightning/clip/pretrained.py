"""Loading of CLIPs: models and tags of open_clip, model folders, packages, the Hugging Face hub, weights files."""

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


class Pretrained(NamedTuple):
    """A pre-trained model with its transforms and tokenizer: the arguments of ``CLIP``, see there."""

    model: nn.Module
    train_transform: Callable[[Any], Tensor]
    test_transform: Callable[[Any], Tensor]
    tokenizer: Callable[[list[str]], Tensor]
    origin: Origin


def load_pretrained(name: str, pretrained: str | None, weights: str | None, origin: str | None = None) -> Pretrained:
    """A model in float32 on the CPU; the arguments are those of ``gift_lightning.clip.source.CLIPSource``.

    Raises:
        InputError: the model does not exist, or its weights are missing, cannot be downloaded, or do not fit it.
    """
    model_name, model_origin = check(name, pretrained, weights), find_origin(name, pretrained, weights, origin)
    if model_name.startswith("hf-hub:"):
        _check_hub(model_name.removeprefix("hf-hub:"), needs_weights=pretrained is None and weights is None)
    is_tag = pretrained is not None and pretrained in tags_of(model_name)
    file = weights or (None if is_tag else pretrained)
    of_tag = _tag_file(model_name, pretrained or "") if is_tag and file is None else None
    try:
        with _quiet():
            # a folder or a hub id comes with weights; without require_pretrained, open_clip only warns if they lack
            bundled = file is None and of_tag is None
            model, train_transform, test_transform = open_clip.create_model_and_transforms(
                model_name,
                load_weights=bundled,
                require_pretrained=bundled,
                pretrained_text=bundled,
                **settings(name, model_origin.tag),
            )
            if of_tag is not None:
                open_clip.load_checkpoint(model, of_tag)
            tokenizer = open_clip.get_tokenizer(model_name, **_tokenizer_files(model_name))
    except Exception as error:  # any: without a network, with a damaged file
        raise InputError(f"CLIP '{name}' cannot be loaded: {first_line(error)}") from error
    if file is not None:
        load_weights(model, Path(file))
    return Pretrained(model, train_transform, test_transform, tokenizer, model_origin)


def check(name: str, pretrained: str | None, weights: str | None) -> str:
    """The name as an argument of open_clip; the arguments are those of ``gift_lightning.clip.source.CLIPSource``.

    Raises:
        InputError: the model, its tag, or a file does not exist.
    """
    # importing the package may register the model's vision tower with timm
    name = f"local-dir:{package_file(name, 'model.clip.name')}" if name.startswith("package:") else name
    if weights is not None and not Path(weights).is_file():
        raise InputError(f"`model.clip.weights` '{weights}' {_not_a_file(weights)}: give a weights file or null.")
    is_missing = pretrained is not None and weights is None and not Path(pretrained).is_file()
    if ":" in name:
        folder = Path(name.removeprefix("local-dir:"))
        if name.startswith("local-dir:") and not (folder / HUB_CONFIG).is_file():
            raise InputError(f"`model.clip.name` is '{name}', but {folder / HUB_CONFIG} does not exist.")
        if is_missing:
            fault = _not_a_file(str(pretrained))
            raise InputError(f"`model.clip.pretrained` '{pretrained}' {fault}: give a weights file or null.")
        return name
    models, name = open_clip.list_models(), name.replace("/", "-")
    if name not in models:
        raise InputError(f"`model.clip.name` '{name}' is not a model of open_clip{nearest(name, models)}.")
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
    """The tokenizer's arguments: a merges file named in the config of a model folder lies in that folder."""
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
    except Exception as error:  # the hub's library raises any exception
        raise InputError(
            f"`model.clip.pretrained` '{tag}' {_absent(error)}, or get {files[0]} from https://huggingface.co/{repository}"
            " by other means and name the file with --model.clip.weights."
        ) from error


def _check_hub(repository: str, needs_weights: bool) -> None:
    try:
        if not _cached(repository, (HUB_CONFIG,)) or (needs_weights and not _cached(repository, HUB_WEIGHTS)):
            _ask(repository)
    except Exception as error:  # as above
        raise InputError(
            f"`model.clip.name` 'hf-hub:{repository}' {_absent(error)}, or get {HUB_CONFIG} and {HUB_WEIGHTS[0]} from"
            f" https://huggingface.co/{repository} by other means and name their folder with"
            " --model.clip.name local-dir:FOLDER."
        ) from error


def _cached(repository: str, files: tuple[str, ...]) -> str | None:
    """The path of the first of ``files`` in the cache; ``None`` if it has none of them."""
    paths = (cached_file(repository, file) for file in files)
    return next((str(path) for path in paths if path), None)


def _ask(repository: str) -> None:
    """Request a repository from the hub, once: without a network, a download would retry for a minute."""
    model_info(repository, timeout=_HUB_SECONDS)


def _absent(error: Exception) -> str:
    """Fault and remedy of a file that the cache lacks, as the middle of a sentence."""
    if is_offline():
        return f"is not on this machine: {HOW_TO_FETCH}"
    return f"is not on this machine and cannot be downloaded ({first_line(error).rstrip('.')}): try again"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence open_clip's messages about models without weights, and about errors that it also raises."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
