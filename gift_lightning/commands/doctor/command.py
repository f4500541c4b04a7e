"""The command ``doctor``: what a run needs and has not, before it takes its turn in a queue.

The tasks, the replay and the method name what they need in ``sources()``; here they are asked, whatever they are.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import Namespace

from datamodules import TaskSequence
from datamodules.base import Replay, Task
from datamodules.label_space import notes_on_names
from gift_lightning.clip.outline import outline_name
from gift_lightning.clip.source import CLIPSource
from gift_lightning.commands.doctor.bench import show_rates
from gift_lightning.commands.doctor.estimate import Size, activations_of_run, needs_of_run, needs_of_sources
from gift_lightning.commands.doctor.fetching import download
from gift_lightning.commands.doctor.tables import show_data, show_needed
from gift_lightning.commands.doctor.verdict import show_estimates, show_verdict
from gift_lightning.config.class_paths import class_of
from gift_lightning.config.parsing import make_subclass
from gift_lightning.console import note, plain_console
from gift_lightning.methods import ContinualCLIP
from gift_lightning.sources import Source


def doctor(sequence: TaskSequence, folder: Path, config: Namespace) -> int:
    """Say what a run of this config has and lacks; returns 0 if it would begin, else 1.

    Args:
        sequence: its data.
        folder: where it would write.
        config: of the command. With ``download``, what is missing is fetched first; with ``bench``, loading and a
            training step are timed.

    Raises:
        InputError: the settings of the method do not go together, or it cannot have this CLIP.
    """
    if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) > 0:
        return 0  # the first process does it for all
    console = plain_console()
    clip = CLIPSource(**config.model.init_args.clip)
    tasks = list(dict.fromkeys(task.origin for task in sequence.tasks))
    of_data, others = [source for task in tasks for source in task.sources()], _other_sources(config.model, sequence)
    method = _outlined(clip, config.model, sequence)  # first: a CLIP that no method takes is not fetched
    if config.download:
        download([*of_data, *others], console)
    data, needed = [source.inspect() for source in of_data], [source.inspect() for source in others]
    method = method or _outlined(clip, config.model, sequence)
    show_data(data, console)
    show_needed(needed, console)
    settings = [] if method is None else method.notes_on_settings(sequence.steps_by_name())
    for sentence in [*clip.notes(), *settings, *_notes(tasks, sequence)]:
        note(sentence)
    needs, size = needs_of_sources(data, needed), None if method is None else Size.of(method)
    if size is not None:
        needs += needs_of_run(size, data, sequence, folder)
    activations = None if method is None else activations_of_run(method, sequence, config.trainer)
    short = show_estimates(needs, size, activations, str(config.trainer.accelerator), console)
    if config.bench:
        steps = method is None or method.learning == "steps"
        show_rates(clip if steps else None, sequence, config.trainer, console)
    return show_verdict([*data, *needed], short, console)


def _other_sources(model: Namespace, sequence: TaskSequence) -> list[Source]:
    """What a run reads beside the data of its tasks, the CLIP first."""
    # a config may also name a function that makes a method
    of_method = getattr(class_of(model.class_path), "sources", ContinualCLIP.sources)
    replayed = [] if sequence.replay is None else sequence.replay.sources()
    return [*of_method(model.init_args.as_dict()), *replayed]


def _outlined(clip: CLIPSource, model: Namespace, sequence: TaskSequence) -> ContinualCLIP | None:
    """The method without weights; ``None`` if its CLIP has no outline without the network."""
    if outline_name(clip.name) is None:
        return None
    with torch.device("meta"):
        method = make_subclass(ContinualCLIP, "model", model.as_dict())
        method.build(sequence.num_tasks, sequence.replay is not None, sequence.seed)
        return method


def _notes(tasks: Sequence[Task], sequence: TaskSequence) -> list[str]:
    """Sentences for the user on the data on this machine."""
    present = [task for task in tasks if hasattr(task, "train_set")]
    sources: list[Task | Replay] = [*present] if sequence.replay is None else [*present, sequence.replay]
    return [sentence for source in sources for sentence in source.notes()] + notes_on_names(
        present, sequence.label_space
    )
