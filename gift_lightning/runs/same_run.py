"""Whether two configs are of the same run: one place for all who ask.

Every setting is decisive unless the class that owns it says otherwise, in a class attribute::

    INDIFFERENT = frozenset({"num_workers", "cache"})

with names of arguments of its constructor: those that say where or how fast something runs, or where data lies that a
fingerprint identifies. They change no number, or only by the rounding of another device. ``"*"`` stands for the whole
object, whose absence makes no difference either.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.plugins import environments

from datamodules import TaskSequence
from datamodules.replay.folder import ReplayFolder
from gift_lightning.config.class_paths import class_of, current_settings
from gift_lightning.files import path_of
from gift_lightning.records.run_folder import RunFolder

TRAINER = frozenset(
    {
        "accelerator",
        "detect_anomaly",
        "devices",
        "enable_autolog_hparams",
        "enable_model_summary",
        "enable_progress_bar",
        "log_every_n_steps",
        "logger",
        "max_time",  # a run that it stops goes on later
        "model_registry",
        "num_nodes",
        "profiler",
        "strategy",
    }
)
"""Indifferent arguments of Lightning's ``Trainer``."""

_OBSERVERS = (
    lightning_callbacks.DeviceStatsMonitor,
    lightning_callbacks.LearningRateMonitor,
    lightning_callbacks.ModelCheckpoint,
    lightning_callbacks.ModelSummary,
    lightning_callbacks.OnExceptionCheckpoint,
    lightning_callbacks.RichModelSummary,
    lightning_callbacks.RichProgressBar,
    lightning_callbacks.ThroughputMonitor,
    lightning_callbacks.Timer,
    lightning_callbacks.TQDMProgressBar,
    environments.LightningEnvironment,
    environments.LSFEnvironment,
    environments.MPIEnvironment,
    environments.SLURMEnvironment,
    environments.TorchElasticEnvironment,
)
"""Classes of Lightning that watch a run, or say where it runs, and change nothing."""

_OWNERS: dict[str, frozenset[str]] = {
    "run": RunFolder.INDIFFERENT,
    "data": TaskSequence.INDIFFERENT,
    "trainer": TRAINER,
}
"""Indifferent arguments of the objects whose class a config does not name."""

_ROOT = "<run.root>"


_OPTIONAL = ("trainer.callbacks.", "trainer.plugins.")
"""Where a run may have objects of the user's that change no number."""


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first decisive setting that differs, as ``data.steps (100 there, 200 here)``; ``None`` if none does.

    Numbers are compared by value, and paths by the file or folder that they lead to.

    Args:
        before: the config of an earlier run, as its ``config.yaml`` has it.
        now: that of the present one.
    """
    old, new = decisive(before), decisive(now)
    for key in sorted(old.keys() | new.keys()):
        if not _is_same(old.get(key), new.get(key)):
            return f"{key} ({old.get(key)} there, {new.get(key)} here)"
    return None


def hint(differing: str) -> str:
    """A further remedy for a difference, as the end of a sentence; empty if there is none."""
    if not differing.startswith(_OPTIONAL):
        return ""
    return '; if it changes no number, give its class INDIFFERENT = frozenset({"*"})'


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """The decisive settings of a config, flat, as ``{"data.steps": 100, ...}``.

    What lies below the root of the runs is named from there: such a folder moves with it.
    """
    run = config.get("run")
    root = str(run.get("root") or "").rstrip("/") if isinstance(run, Mapping) else ""
    settings = {}
    variables = config.get("variables") or {}  # of the environment: a setting that names one is what it holds
    for part, value in config.items():
        if part == "variables":
            continue
        indifferent = _OWNERS.get(str(part), frozenset())
        for key, leaf in _leaves(value, str(part), indifferent):
            is_below = bool(root) and isinstance(leaf, str) and leaf.startswith(f"{root}/")
            settings[key] = _ROOT + leaf[len(root) :] if is_below else leaf
            if key in variables:
                settings[key] = f"{leaf} with the fingerprint {variables[key]}"
    return settings


def method_settings(config: Mapping[str, Any]) -> dict[str, str]:
    """The decisive settings without the seed, as texts: runs in which all are equal are seeds of one method.

    Folders below the roots of two runs are two folders. A folder of images that the run itself draws is left out: their
    generator and the seed decide on them.
    """
    settings = decisive({part: value for part, value in config.items() if part != "run"})
    settings.pop("seed_everything", None)
    if any(key.startswith("data.replay.init_args.generator.") for key in settings):
        folder = config["data"]["replay"]["init_args"].get("folder")
        if isinstance(folder, str) and not any(ReplayFolder(path).is_foreign for path in path_of(folder).glob("*_Syn")):
            settings.pop("data.replay.init_args.folder", None)
    return {key: _text(value) for key, value in settings.items() if value is not None}


def _text(value: Any) -> str:
    """A setting as a text, equal for equal numbers."""
    if isinstance(value, str):
        return value
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    return json.dumps(number, default=str, ensure_ascii=False)


def _leaves(value: Any, key: str, indifferent: frozenset[str] = frozenset()) -> Iterator[tuple[str, Any]]:
    """The decisive settings in ``value``, with their whole names; ``indifferent`` are keys of ``value`` itself."""
    if _is_object(value):
        if isinstance(value.get("init_args"), Mapping):
            path, arguments = current_settings(value["class_path"], value["init_args"])
            value = {**value, "class_path": path, "init_args": arguments}
        owner = class_of(value["class_path"])
        indifferent = _declared(owner)
        if "*" in indifferent:
            return
        yield f"{key}.class_path", _path_of(owner) or value["class_path"]
        for group, arguments in value.items():
            if group != "class_path" and arguments:  # an object without arguments may have an empty group or none
                yield from _leaves(arguments, f"{key}.{group}", indifferent)
    elif isinstance(value, Mapping) and value:
        for name, inner in value.items():
            if name not in indifferent:
                yield from _leaves(inner, f"{key}.{name}")
    elif isinstance(value, (list, tuple)) and (value or f"{key}." in _OPTIONAL):
        items = [item for item in value if not (_is_object(item) and "*" in _declared(class_of(item["class_path"])))]
        for number, item in enumerate(items):
            yield from _leaves(item, f"{key}.{number}")
    else:
        yield key, value


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("class_path"), str)


def _path_of(owner: Any) -> str | None:
    """One name for a class that several modules export."""
    return f"{owner.__module__}.{owner.__qualname__}" if isinstance(owner, type) else None


def _declared(owner: Any) -> frozenset[str]:
    return frozenset("*") if owner in _OBSERVERS else getattr(owner, "INDIFFERENT", frozenset())


def _is_same(old: Any, new: Any) -> bool:
    if isinstance(old, bool) or isinstance(new, bool):  # for Python, True equals 1
        return old is new
    if old == new or (old != old and new != new):  # nan
        return True
    if not (isinstance(old, str) and isinstance(new, str) and _is_path(old) and _is_path(new)):
        return False
    return os.path.realpath(os.path.expanduser(old)) == os.path.realpath(os.path.expanduser(new))


def _is_path(text: str) -> bool:
    """Whether a text names a file or folder beyond doubt: ``imagenet`` may be a word, ``./imagenet`` is none."""
    return os.sep in text or os.path.splitext(text)[1] != ""
