"""A run from Python: objects instead of a config, the same folder as the command line's."""

import logging
import os
import re
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from jsonargparse import ArgumentError, Namespace
from lightning import Trainer, seed_everything
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from lightning.pytorch.utilities.seed import isolate_rng

from datamodules import TaskSequence
from datamodules.signals import Stopped
from gift_lightning.config.parsing import as_commands_read, check_values, late_refusal
from gift_lightning.config.sentences import find_input_error, sentence
from gift_lightning.console import print_styled, quiet_libraries
from gift_lightning.errors import InputError, nearest
from gift_lightning.methods import ContinualCLIP
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.fit import Run
from gift_lightning.runs.load import put_final_state
from gift_lightning.runs.parser import OF_THE_FOLDER, completed
from gift_lightning.runs.results import Results
from gift_lightning.runs.trainer_settings import check_settings
from gift_lightning.settings import arguments_of, make_anew, plain, settings_of

_OBJECTS = ("accelerator", "callbacks", "logger", "plugins", "profiler", "strategy")
"""Arguments of the trainer that take objects of Lightning, which do not know how they were made."""


def fit(method: ContinualCLIP, sequence: TaskSequence, run: str | Path | RunFolder, **trainer: Any) -> Results:
    """Let a method learn a sequence of tasks, and record the accuracy matrix in the folder of a run.

    A run that was stopped goes on where it was when ``fit`` is called again; one that is complete returns its results.
    Its folder is that of ``python -m gift_lightning fit``: each goes on with runs of the other, and ``report``,
    ``test``, ``export`` and ``load`` read both.

    A run begins with the method and the sequence as their constructors leave them, called anew with the same arguments:
    these alone are in the run's config. Attributes that were changed since, and what an earlier ``fit`` or a checkpoint
    left in them, are dropped. To begin with trained weights, make the method with ``CLIPSource(..., weights=FILE)``.
    After ``fit``, the method is the one with which the run ended.

    This is the run of the command line, in its process: ``Run.fit`` of ``gift_lightning.runs.fit``, which both share,
    says whether it begins, goes on or is complete.

    Args:
        method: a method of ``gift_lightning.methods``, or a subclass of ``ContinualCLIP`` of yours.
        sequence: the tasks; ``seed`` is that of all randomness. Without a ``cache``, decoded test images go
            to the folder ``cache`` beside the run.
        run: the folder, as ``runs/mine``; a ``RunFolder`` also says how often checkpoints are written.
        trainer: arguments of Lightning's ``Trainer``, such as ``devices`` or ``precision``. Callbacks, loggers and
            plugins are used but are no part of the run's config, so that they should only watch.

    SIGTERM, and under SLURM its signal to requeue, stop the run where nothing is lost, and then the program, unless it
    catches ``SystemExit``: the exit status is 143, or 128 and the number of the signal.

    Raises:
        InputError: the folder holds another run, an argument does not fit, the run was stopped before its end, or
            another process of it has ended.
        SystemExit: a signal has stopped the run.
    """
    with _as_a_guest():
        config, text = _config(method, sequence, _folder(run), trainer)
        seed_everything(sequence.seed, workers=True, verbose=False)  # first, as on the command line: classes may draw
        make_anew(method)
        make_anew(sequence)
        sequence.cache = config.data.cache  # its default lies beside this run, and is none of another
        settings = {**config.trainer.as_dict(), **trainer, "max_epochs": sequence.num_tasks}
        the_run = Run(RunFolder(**config.run), text, writes=not settings.get("fast_dev_run"))
        results = the_run.fit(method, sequence, the_run.trainer(settings), "last" if the_run.writes else None)
        if not results.is_new:
            put_final_state(method, the_run.folder)
        return results


def _folder(run: str | Path | RunFolder) -> RunFolder:
    if isinstance(run, RunFolder):
        return run
    if not str(run).strip("./ "):
        raise InputError(f"run is '{run}': name a folder for this run alone, as runs/mine.")
    return RunFolder.at(run)


def _config(
    method: ContinualCLIP, sequence: TaskSequence, folder: RunFolder, trainer: Mapping[str, Any]
) -> tuple[Namespace, str]:
    """The config of a run with all defaults, and its text."""
    _check_arguments(method, sequence, trainer)
    data = arguments_of(sequence)
    data.pop("seed", None)
    settings = {
        "seed_everything": sequence.seed,
        "run": plain(folder, "fit: run"),
        "model": settings_of(method),
        "data": data,
        "trainer": _of_yaml(trainer),
    }
    try:
        with as_commands_read():
            config, text = completed(settings)
    except (ArgumentError, ValueError) as error:
        refusal = find_input_error(error)
        text = re.sub(r"^seed_everything\b", "`data.seed`", sentence(error, []))
        raise refusal or InputError(re.sub(r"^((?:model|data|trainer|run)\.[\w.]+)", r"`\1`", text)) from error
    for group in ("model", "data"):
        _check_texts(settings[group], config[group], "")
    check_values(config)
    check_settings(config.trainer)
    return config, text


def _check_texts(given: Any, read: Any, name: str) -> None:
    """Refuse a text that a config reads as something else: the constructor has taken it for what it is, a text.

    Args:
        given: settings of an object, or one of them.
        read: the same of the config.
        name: of the argument, for the message.
    """
    if isinstance(given, str) and isinstance(read, bool | int | float | None):
        raise InputError(f"{name} is the text '{given}', which a config reads as {read!r}: give a value of its type.")
    if isinstance(given, list) and isinstance(read, list):
        for index, (one, other) in enumerate(zip(given, read, strict=True)):
            _check_texts(one, other, f"{name}.{index}")
    if isinstance(given, dict) and isinstance(read, dict | Namespace):
        for key, value in given.items():
            below = name if key == "init_args" else f"{name}.{key}".lstrip(".")
            _check_texts(value, read.get(key, value), below)


def _check_arguments(method: ContinualCLIP, sequence: TaskSequence, trainer: Mapping[str, Any]) -> None:
    for thing in (method, sequence):
        if isinstance(thing, type):
            raise InputError(f"{thing.__name__} is a class: give fit an object of it, {thing.__name__}(...).")
    if not isinstance(method, ContinualCLIP):
        raise InputError(f"fit needs a method, such as GIFT(...), and {type(method).__name__} is none.")
    kind = type(sequence).__name__
    if not isinstance(sequence, TaskSequence):
        raise InputError(f"fit needs a TaskSequence of tasks, and {kind} is none.")
    if type(sequence) is not TaskSequence:
        raise InputError(
            f"fit takes a TaskSequence itself, for a config names no other, and {kind} is a subclass: derive a task or"
            " a replay instead, or train with Lightning's Trainer."
        )
    names = set(signature(Trainer).parameters) - OF_THE_FOLDER - {"max_epochs"}
    for name in trainer:
        if name in OF_THE_FOLDER:
            raise InputError(f"fit sets {name} itself, by the folder of the run: remove it.")
        if name == "max_epochs":
            raise InputError("fit sets max_epochs itself, one epoch for each task: remove it.")
        if name not in names:
            raise InputError(
                f"fit has no argument {name}, nor has Lightning's Trainer{nearest(name, names | {'max_epochs'})}."
            )


def _of_yaml(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the trainer that a config can hold; without the objects, which it cannot."""
    settings = {}
    for name, value in trainer.items():
        try:
            settings[name] = plain(value, f"fit: {name}")
        except InputError:
            if name not in _OBJECTS:
                raise
    return settings


@contextmanager
def _as_a_guest() -> Iterator[None]:
    """Within it, a run has the process for itself; after it, Ctrl-C, warnings, logs, kernels and randomness are as they
    were.

    Ctrl-C is a ``KeyboardInterrupt`` again: Lightning makes an exit of the process of it.
    """
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels, raises = [logger.level for logger in loggers], logging.raiseExceptions
    of_interrupts = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings(), _randomness_restored(), _kernels_restored():
            quiet_libraries()
            yield
    except Stopped as stopped:
        if cast(Any, rank_zero_only).rank == 0:
            print_styled(stopped.sentence, "red")
        raise
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        raise KeyboardInterrupt from None
    except InputError:
        raise
    except Exception as error:
        refusal = find_input_error(error) or late_refusal(error)
        if refusal is None:
            raise
        raise refusal from error
    finally:
        logging.raiseExceptions = raises
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, of_interrupts if of_interrupts is not None else signal.SIG_DFL)


@contextmanager
def _randomness_restored() -> Iterator[None]:
    """Within it, a run seeds what is random; after it, the generators of the process go on where they were."""
    seeds = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    generators = isolate_rng(include_cuda=torch.cuda.is_initialized())  # to ask for a state would initialise CUDA
    generators.__enter__()
    try:
        yield
    finally:
        generators.__exit__(None, None, None)  # of an exception it is not to know: it would restore nothing
        for name, seed in seeds.items():
            os.environ.pop(name, None)
            if seed is not None:
                os.environ[name] = seed


@contextmanager
def _kernels_restored() -> Iterator[None]:
    """Within it, a trainer chooses kernels by ``deterministic`` and ``benchmark``; after it, they are as before."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=only_warns)
        torch.backends.cudnn.benchmark = benchmark
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
        if workspace is not None:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace
