"""The command ``export``: the final CLIP of a run, for other programs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from gift_lightning.clip.source import CLIPSource
from gift_lightning.clip.weights import openai_names
from gift_lightning.console import plain_console
from gift_lightning.errors import InputError
from gift_lightning.files import package_file, path_of
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.load import final_clip
from gift_lightning.tensors import save_checkpoint, save_tensors


def main(arguments: Sequence[str]) -> None:
    """Write the CLIP of a run as a plain state dict of open_clip, and say how to load it; or for OpenAI's code.

    Raises:
        InputError: see ``final_clip``; OpenAI's code has no such model; or the file cannot be written.
    """
    parser = argparse.ArgumentParser(
        prog="python -m gift_lightning export", description="Write the final CLIP of a run for other programs."
    )
    parser.add_argument("--run", type=path_of, required=True, help="the folder of a finished run")
    parser.add_argument(
        "--out", type=path_of, required=True, help="a .safetensors file for open_clip, .pth for OpenAI's code"
    )
    options = parser.parse_args(arguments)
    if options.out.suffix not in (".safetensors", ".pth"):
        raise InputError(f"--out is {options.out}: end it in .safetensors, or in .pth for OpenAI's code.")
    folder = RunFolder.at(options.run)
    source = final_clip(folder)
    if folder.knowledge.is_file():
        raise InputError(f"{options.run} ended with more than one model: use it with gift_lightning.load.")
    clip = source.load()
    model, metadata = clip.model, clip.origin.metadata
    if options.out.suffix == ".pth":
        save_checkpoint({"state_dict": openai_names(model), **metadata}, options.out)
        lines = _for_openai(options.out)
    else:
        save_tensors(model.state_dict(), options.out, metadata)
        lines = ["  import open_clip", *_for_open_clip(source, options.out)]
    lines = [f"{options.out} is written. It is loaded by", "", *lines]
    plain_console().print(*lines, sep="\n", soft_wrap=True)


def _for_openai(path: Path) -> list[str]:
    """The lines of Python that load the file into a model of OpenAI's code, and of those that are built on it."""
    return ["  import torch", f"  model.load_state_dict(torch.load({str(path)!r}, weights_only=True)['state_dict'])"]


def _for_open_clip(source: CLIPSource, path: Path) -> list[str]:
    """The lines of Python that load the file into a model without this package, as far as that is possible."""
    made = "  model, _, preprocess = open_clip.create_model_and_transforms"
    if ":" not in source.name:
        settings = "".join(f", {name}={value!r}" for name, value in source.settings().items())
        return [f"{made}({source.name!r}, pretrained={str(path)!r}{settings})"]
    package = source.name.removeprefix("package:")
    name = source.name if package == source.name else f"local-dir:{package_file(source.name, 'model.clip.name')}"
    return [
        *([f"  import {package}  # its image tower"] if package != source.name else []),
        f"{made}({name!r})",
        f"  open_clip.load_checkpoint(model, {str(path)!r})",
    ]
