"""The model that a finished run ended with."""

from dataclasses import replace
from pathlib import Path

from jsonargparse import ArgumentError
from torch import Tensor

from gift_lightning.clip.source import CLIPSource
from gift_lightning.clip.weights import read_file
from gift_lightning.config.parsing import make_subclass
from gift_lightning.config.references import from_environment
from gift_lightning.config.sentences import find_input_error, sentence
from gift_lightning.errors import InputError
from gift_lightning.files import path_of
from gift_lightning.methods import ContinualCLIP
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.tensors import checksum_in, load_tensors


def load_run(run: str | Path) -> ContinualCLIP:
    """See ``gift_lightning.load``."""
    folder = RunFolder.at(run)
    clip = final_clip(folder)
    settings = from_environment(folder.read_config(), "model")
    settings["init_args"]["clip"] = vars(clip)
    try:
        model = make_subclass(ContinualCLIP, "model", settings)
    except (ArgumentError, ValueError) as error:
        raise find_input_error(error) or InputError(f"{folder.config}: {sentence(error, [])}") from error
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
    if not results["learns"]:
        return start
    weights = folder.final_weights(len(results["R"]))
    if not weights.is_file():
        raise InputError(f"{weights} is missing: restore it, or run again.")
    if results.get("weights") not in (None, checksum_in(weights)):
        raise InputError(f"{weights} are not the weights with which this run ended: restore them, or run again.")
    # what a method keeps beside the CLIP leaves the CLIP as it was
    return start if weights == folder.knowledge else replace(start, weights=str(weights))


def weights_to_test(path: str, folder: RunFolder) -> tuple[Path, dict[str, Tensor]]:
    """The file of weights or the checkpoint to evaluate, and what its method needs to predict beside the CLIP.

    Args:
        path: the file, or ``last`` for the latest checkpoint.
        folder: of the run.

    Raises:
        InputError: the file is missing or damaged.
    """
    file = folder.last_checkpoint if path == "last" else path_of(path)
    if file.name == folder.knowledge.name:
        return file, load_tensors(file)
    content = read_file(file)
    return file, content.get("knowledge", {}) if isinstance(content, dict) else {}
