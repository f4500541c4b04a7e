"""What a finished run is good for: its model, and its weights for other programs."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jsonargparse import ArgumentError, ArgumentParser

from gift_lightning.checkpoint import checksum_in, load_tensors, save_checkpoint, save_tensors
from gift_lightning.cli_errors import find_input_error, sentence
from gift_lightning.clip import CLIPSource
from gift_lightning.console import plain_console
from gift_lightning.errors import InputError
from gift_lightning.files import package_file, path_of
from gift_lightning.methods import ContinualCLIP
from gift_lightning.references import from_environment
from gift_lightning.run_folder import RunFolder
from gift_lightning.weights import openai_names


def load_run(run: str | Path) -> ContinualCLIP:
    """See ``gift_lightning.load``."""
    folder = RunFolder.at(run)
    clip = final_clip(folder)
    settings = from_environment(folder.read_config(), "model")
    settings["init_args"]["clip"] = vars(clip)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ContinualCLIP, "model")
    try:
        model: ContinualCLIP = parser.instantiate_classes(parser.parse_object({"model": settings})).model
    except (ArgumentError, ValueError, InputError) as error:
        raise find_input_error(error) or InputError(f"{folder.config}: {sentence(str(error), [])}") from error
    if folder.knowledge.is_file():
        model.load_knowledge(load_tensors(folder.knowledge))
    return model.eval()


def final_clip(folder: RunFolder) -> CLIPSource:
    """The CLIP that a run ended with.

    Raises:
        InputError: there is no finished run in the folder, or its config or weights are missing.
    """
    results = folder.read_results()
    if results is None:
        raise InputError(f"{folder.path} holds no run: name the folder with its results.json.")
    if not results["complete"]:
        raise InputError(f"{folder.path} holds an unfinished run: go on with fit and --ckpt_path last.")
    config = folder.read_config()
    if config["model"]["class_path"].rpartition(".")[2] != results["method"]:
        raise InputError(f"{folder.config} and {folder.results} are of different runs: restore them.")
    try:
        start = CLIPSource(**from_environment(config, "model")["init_args"]["clip"])
    except TypeError as error:
        raise InputError(f"{folder.config} is damaged ({error}): restore it, or delete {folder.path}.") from error
    if results.get("cost", {}).get("trainable_parameters") == 0:
        return start  # a method that learns nothing
    weights = folder.final_weights(len(results["R"]))
    if not weights.is_file():
        raise InputError(f"{weights} is missing: restore it, or run again.")
    if results.get("weights") not in (None, checksum_in(weights)):
        raise InputError(f"{weights} are not the weights with which this run ended: restore them, or run again.")
    # what a method keeps beside the CLIP leaves the CLIP as it was
    return start if weights == folder.knowledge else replace(start, weights=str(weights))


def export(arguments: Sequence[str]) -> None:
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
