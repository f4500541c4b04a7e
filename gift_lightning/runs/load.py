"""The model of a finished run, and the method in a checkpoint."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError
from torch import Tensor

from gift_lightning.clip import CLIP
from gift_lightning.clip.source import CLIPSource
from gift_lightning.clip.weights import mismatch, read_file
from gift_lightning.config.class_paths import class_of
from gift_lightning.config.parsing import make_subclass
from gift_lightning.config.references import from_environment
from gift_lightning.config.sentences import find_input_error, sentence
from gift_lightning.errors import InputError
from gift_lightning.files import path_of
from gift_lightning.methods import ContinualCLIP
from gift_lightning.methods.saved import SavedMethod
from gift_lightning.records.checkpoint import config_in, read_checkpoint
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.settings import plain
from gift_lightning.tensors import checksum_in, load_tensors


def load(run: str | Path) -> ContinualCLIP:
    """The model that a finished run ended with, in evaluation mode on the CPU.

    ``load("runs/quickstart").predict(images, ["cat", "dog"])`` gives a probability for each image and class.

    Args:
        run: the folder of the run.

    Raises:
        InputError: the folder holds no finished run, or a file of it is missing or damaged; or another package named
            ``callbacks`` or ``datamodules`` hides that of gift-lightning.
    """
    folder = RunFolder.at(run)
    model = _method(folder, final_clip(folder))
    if folder.knowledge.is_file():
        model.load_knowledge(load_tensors(folder.knowledge))
    return model


def load_start(run: str | Path) -> ContinualCLIP:
    """The model that a finished run began with, whose accuracies are the zero-shot row; as ``load`` otherwise."""
    folder = RunFolder.at(run)
    return _method(folder, _first_clip(folder, folder.finished_results()))


def _method(folder: RunFolder, clip: CLIPSource) -> ContinualCLIP:
    """The method of a run with a CLIP, in evaluation mode, as it is before the first task."""
    settings = from_environment(folder.read_config(), "model")
    settings["init_args"]["clip"] = vars(clip)
    return made(ContinualCLIP, "model", settings, folder.config).eval()


def put_final_state(method: ContinualCLIP, folder: RunFolder) -> None:
    """Let a method that is as it was made have the weights, or the knowledge, with which a finished run ended.

    Raises:
        InputError: see ``final_clip``.
    """
    method.clip.model.load_state_dict(final_clip(folder).load().model.state_dict())
    if folder.knowledge.is_file():
        method.load_knowledge(load_tensors(folder.knowledge))


_Made = TypeVar("_Made")
_Method = TypeVar("_Method", bound=SavedMethod)


def load_checkpoint(kind: type[_Method], path: str | Path, strict: bool = True, **arguments: Any) -> _Method:
    """See ``ContinualCLIP.load_from_checkpoint``."""
    file = path_of(path)
    checkpoint = read_checkpoint(file)
    config = yaml.safe_load(config_in(checkpoint, file))
    if config:
        settings = from_environment(config, "model")
        settings["class_path"] = _class_in(settings["class_path"], kind)
    else:  # of a plain Trainer: all arguments are given
        settings = {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": {}}
    settings["init_args"] |= {name: plain(value, f"{kind.__name__}: {name}") for name, value in arguments.items()}
    if "clip" not in settings["init_args"]:
        raise InputError(
            f"Checkpoint {file} has no config: give all arguments of {kind.__name__}, beginning with clip."
        )
    knowledge = checkpoint.get("knowledge", {})
    if not knowledge:  # else the CLIP is the one with which the run began
        settings["init_args"]["clip"]["weights"] = str(file)
    model: Any = made(ContinualCLIP, "model", settings, file)
    _build(model, checkpoint, file)
    model.strict_loading = strict
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"], strict=strict)
    return model.eval()


def _build(model: ContinualCLIP, checkpoint: Mapping[str, Any], file: Path) -> None:
    """Make what grows with the tasks, as it was in the run of the checkpoint."""
    progress = checkpoint["callbacks"]["TaskBoundary"]
    try:
        tasks, seed, started = len(progress["stream"]["steps"]), progress["stream"]["seed"], progress["started"]
    except (KeyError, TypeError) as error:
        raise InputError(f"Checkpoint {file} does not say how far its run was: give the last.ckpt of a run.") from error
    # the state of the sequence has the name of its class, which may be a user's
    has_reference = any("replay" in state for state in checkpoint.values() if isinstance(state, Mapping))
    model.build(tasks, has_reference, seed)
    model.task = max(started, 0)


def _class_in(path: str, kind: type[SavedMethod]) -> str:
    """The path of a method's class in a config, if it is ``kind`` or derives from it.

    Raises:
        InputError: it is another.
    """
    name, saved = path.rpartition(".")[2], class_of(path)
    if saved is None and name == kind.__name__:  # it was defined in another notebook, and now in this one
        return f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(saved, type) and not issubclass(saved, kind):
        raise InputError(
            f"The checkpoint is of a run of {name}, and this is {kind.__name__}: call {name}.load_from_checkpoint."
        )
    return path


def made(base: type[_Made], key: str, settings: Any, source: Path) -> _Made:
    """The object that the settings in a file describe.

    Args:
        base: what its class derives from.
        key: of the settings, for error messages.
        settings: its ``class_path`` and ``init_args``.
        source: the file, for error messages.

    Raises:
        InputError: they describe no such object, as when its class is gone.
    """
    try:
        return make_subclass(base, key, settings)
    except (ArgumentError, ValueError) as error:
        raise find_input_error(error) or InputError(f"{source}: {sentence(error, [])}") from error


def put_weights(clip: CLIP, file: Path) -> None:
    """Let a CLIP have the weights that its run kept after a task.

    Raises:
        InputError: the file is missing or damaged, or its tensors have other names or shapes.
    """
    weights = load_tensors(file)
    if misfit := mismatch(weights, clip.model.state_dict()):
        raise InputError(f"{file} has the weights of another CLIP ({misfit}): restore it, or run again.")
    clip.model.load_state_dict(weights)


def final_clip(folder: RunFolder) -> CLIPSource:
    """The CLIP that a run ended with.

    Raises:
        InputError: there is no finished run in the folder, or its config or weights are missing.
    """
    results = folder.finished_results()
    start = _first_clip(folder, results)
    if not results["learns"]:
        return start
    weights = folder.final_weights(len(results["R"]))
    if not weights.is_file():
        raise InputError(f"{weights} is missing: restore it, or run again.")
    if results.get("weights") not in (None, checksum_in(weights)):
        raise InputError(f"{weights} are not the weights with which this run ended: restore them, or run again.")
    # a method with knowledge leaves the CLIP as it was
    return start if weights == folder.knowledge else replace(start, weights=str(weights))


def _first_clip(folder: RunFolder, results: dict[str, Any]) -> CLIPSource:
    """The CLIP that a run began with."""
    config = folder.read_config()
    if config["model"]["class_path"].rpartition(".")[2] != results["method"]:
        raise InputError(f"{folder.config} and {folder.results} are of different runs: restore them.")
    try:
        return CLIPSource(**from_environment(config, "model")["init_args"]["clip"])
    except TypeError as error:
        raise InputError(
            f"{folder.config} is damaged ({error}): restore it, or run again in another folder."
        ) from error


def weights_to_test(path: str, folder: RunFolder) -> tuple[Path, dict[str, Tensor]]:
    """The file of weights or the checkpoint to evaluate, and the knowledge of its method beside the CLIP.

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
