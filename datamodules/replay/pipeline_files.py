"""The files of a pipeline of diffusers, in a folder or in a listing of the hub: those needed, and those missing."""

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gift_lightning.files import read_json
from gift_lightning.hub import TOKENIZER_FILES

INDEX = "model_index.json"
"""Names the components of a pipeline."""

_UNUSED = ("safety_checker", "feature_extractor")
_STEMS = {"transformers": "model", "diffusers": "diffusion_pytorch_model"}
"""Names of the files of weights, by library."""


class Contents(NamedTuple):
    """The files that are read of a pipeline.

    Attributes:
        variant: of its weights, ``fp16`` for instance; ``None`` for the usual ones, which come first.
        lacking: needed files that are missing.
    """

    variant: str | None
    lacking: list[str]


def contents_of(folder: Path) -> Contents:
    """The contents of a pipeline in a folder; links of the hub's cache to nothing do not count."""
    files = [path.relative_to(folder).as_posix() for path in folder.glob("*/*") if path.is_file()]
    return contents(read_json(folder / INDEX), files)


def contents(index: Any, files: Collection[str]) -> Contents:
    """The contents of a pipeline.

    Args:
        index: the content of its ``model_index.json``.
        files: paths below its folder, with slashes.
    """
    lacking, weights = list[str](), dict[str, tuple[str, set[str]]]()
    for name, (library, kind) in _components(index).items():
        names = {path.removeprefix(f"{name}/") for path in files if path.startswith(f"{name}/")}
        if "Tokenizer" in kind:
            lacking += [] if names & set(TOKENIZER_FILES) else [f"vocabulary in {name}/"]
            continue
        config = _config_of(kind)
        lacking += [] if config in names else [f"{name}/{config}"]
        if config == "config.json":
            stem = _STEMS.get(library, r"[\w-]+")
            other = " (.bin is not read)" if any(path.endswith(".bin") for path in names) else ""
            file = f"{name}/{_STEMS.get(library, '*')}.safetensors{other}"
            weights[name] = file, _whole_variants(names, stem)
    special = [variants for _, variants in weights.values() if "" not in variants]
    common = set.intersection(*special) if special else {""}
    # weights that are not averaged are the last choice
    variant = min(common, key=lambda each: (each == "non_ema", each != "fp16", each), default="")
    lacking += [file for file, variants in weights.values() if not variants & {"", variant}]
    if special and not common and not lacking:
        lacking = [next(file for file, variants in weights.values() if "" not in variants)]
    return Contents(variant or None, lacking)


def fingerprint(folder: Path) -> str:
    """Identifies a pipeline by the sizes and first MiB of the files of its components."""
    digest, index = hashlib.sha256(), folder / INDEX
    components = [folder / name for name, entry in read_json(index).items() if isinstance(entry, list)]
    files = (file for place in components for kind in ("*.json", "*.safetensors") for file in place.rglob(kind))
    for path in [index, *sorted(files)]:
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}".encode())
        with open(path, "rb") as file:
            digest.update(file.read(1 << 20))
    return digest.hexdigest()[:16]


def _components(index: Any) -> dict[str, tuple[str, str]]:
    """Library and class of each component of a pipeline; the safety checker is left out."""
    items = index.items() if isinstance(index, Mapping) else ()
    lists = {name: pair for name, pair in items if isinstance(pair, list) and len(pair) == 2 and name not in _UNUSED}
    return {name: (pair[0], pair[1]) for name, pair in lists.items() if all(isinstance(each, str) for each in pair)}


def _config_of(kind: str) -> str:
    if "Scheduler" in kind:
        return "scheduler_config.json"
    return "preprocessor_config.json" if kind.endswith(("Processor", "Extractor")) else "config.json"


def _whole_variants(names: Collection[str], stem: str) -> set[str]:
    """The variants with all weights, in one file or in numbered ones with an index; '' is the usual."""
    form = re.compile(rf"({stem})(?:\.([\w-]+?))?(?:-(\d{{5}})-of-(\d{{5}}))?(?:\.([\w-]+))?\.safetensors")
    whole, numbered = set[str](), dict[tuple[str, str, int], set[int]]()
    for match in filter(None, map(form.fullmatch, names)):
        variant = match[2] or match[5] or ""
        if match[3] is None:
            whole.add(variant)
        else:
            numbered.setdefault((match[1], variant, int(match[4])), set()).add(int(match[3]))
    for (name, variant, total), numbers in numbered.items():
        index = f"{name}.safetensors.index{'.' * bool(variant)}{variant}.json"
        whole |= {variant} if len(numbers) == total and index in names else set()
    return whole
