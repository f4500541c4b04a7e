"""Checks of a sequence, each with one sentence: its arguments, its tasks, its model, batches that do not divide."""

from collections.abc import Sequence, Sized
from typing import cast

from lightning import Trainer

from datamodules.base import Replay, Task, is_template
from datamodules.preprocessing import Preprocessing
from datamodules.stream import Split
from gift_lightning.errors import InputError
from gift_lightning.names import alike_as_files, fault_of, fault_of_task


def check_arguments(
    tasks: Sequence[Task], batch_size: int, steps: int | str, num_workers: int, shots: int | None
) -> None:
    """Raise an ``InputError`` for arguments of a ``TaskSequence`` with impossible values."""
    if not tasks:
        raise InputError("`data.tasks` is empty: name at least one task.")
    _check_names([task.name for task in tasks])
    if steps != "epoch" and int(steps) < 1:
        raise InputError(f"`data.steps` is {steps}: give at least 1 optimiser step per task, or 'epoch'.")
    if batch_size < 1:
        raise InputError(f"`data.batch_size` is {batch_size}: give at least 1.")
    given = {f"shots of task '{task.name}'": task.shots for task in tasks}
    for key, count in ({"`data.shots`": shots} | given).items():
        if count is not None and count < 1:
            raise InputError(f"{key} is {count}: give at least 1 image of each class, or null for all.")
    if num_workers < 0:
        raise InputError(f"`data.num_workers` is {num_workers}: give 0 (load while training) or more.")


def _check_names(names: Sequence[str]) -> None:
    spellings: dict[str, str] = {}
    for name in names:
        if fault := fault_of_task(name):
            raise InputError(f"The name {name!r} of a task {fault}: give it a short name, which folders can have.")
        other = spellings.setdefault(alike_as_files(name), name)
        if other != name:
            which = f"tasks named '{other}' and '{name}', which some file systems take for the same"
            raise InputError(f"`data.tasks` has {which}: give each task its own name.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"`data.tasks` has more than one task named '{twice[0]}': give each task its own name.")


def check_division(sizes: dict[str, int], split: Split) -> None:
    """Raise an ``InputError`` if batches do not divide into those of the ranks and accumulated ones.

    Args:
        sizes: of the batches, by the name of the setting.
        split: the division.
    """
    if split.accumulate < 1:
        raise InputError(f"`trainer.accumulate_grad_batches` is {split.accumulate}: give at least 1.")
    micro_batches = split.world_size * split.accumulate
    for name, size in sizes.items():
        if size % micro_batches:
            raise InputError(
                f"{name} {size} does not divide into {split.world_size} devices x"
                f" {split.accumulate} accumulated batches: choose a multiple of {micro_batches}."
            )


def preprocessing_of(trainer: Trainer) -> Preprocessing:
    """The preprocessing of the trainer's model; an ``InputError`` if that has no ``clip`` with image transforms."""
    module = trainer.lightning_module
    clip = getattr(module, "clip", None)
    # no isinstance: for a Protocol it does not see a transform that torch.nn.Module has registered
    if missing := [name for name in ("train_geometry", "test_geometry", "normalize") if not hasattr(clip, name)]:
        raise InputError(
            f"A TaskSequence takes the image transforms of the model's `clip`, and that of {type(module).__name__} has"
            f" no {missing[0]}: train a ContinualCLIP, or give each task to a Trainer by itself."
        )
    return cast(Preprocessing, clip)


def set_up(datamodules: Sequence[Task | Replay], stage: str) -> None:
    """Set up all of them; one ``InputError`` has the fault of the first one that fails, and how many more fail."""
    faults = []
    for datamodule in datamodules:
        try:
            datamodule.setup(stage)
        except InputError as error:
            faults.append(error)
    if faults:
        sentence, more = str(faults[0]).removesuffix("."), len(faults) - 1
        if more:
            sentence += f", and {more} more {'source' if more == 1 else 'sources'} of images cannot be used"
        raise InputError(f"{sentence} ('python -m gift_lightning doctor' says more).") from faults[0]


def check_labels(task: Task, split: str, samples: Sized) -> None:
    """Raise an ``InputError`` if a set with a list of labels has one that is no class of its task."""
    labels = getattr(samples, "labels", None)
    labels = [0] if labels is None or len(labels) == 0 else labels  # a list, or an array
    if wrong := [label for label in (min(labels), max(labels)) if not 0 <= label < len(task.class_names)]:
        raise InputError(
            f"Task '{task.name}' has a {split} image with the label {wrong[0]}, and {len(task.class_names)} class"
            " names: labels count from 0."
        )


def check_task(task: Task) -> None:
    """Raise an ``InputError`` if a task, after ``setup``, lacks images or classes, or has unusable labels or texts.

    Labels are checked where a set has a list of them.
    """
    lacking = [
        name for name in ("name", "class_names", "templates", "train_set", "test_set") if not hasattr(task, name)
    ]
    if lacking:
        kind = type(task).__name__
        raise InputError(f"Task {kind} has no {lacking[0]} after setup: set it in the class or in its setup.")
    texts: tuple[object, object] = (task.class_names, task.templates)  # of a user's class, which may have other types
    if any(isinstance(text, str) for text in texts):
        raise InputError(f"Task '{task.name}' has a text for class_names or templates: give lists of texts.")
    for split, samples in (("training", task.train_set), ("test", task.test_set)):
        if len(samples) == 0:
            raise InputError(f"Task '{task.name}' has no {split} images: check its folder and its settings.")
        check_labels(task, split, samples)
    if len(task.class_names) < 2:
        raise InputError(f"Task '{task.name}' has {len(task.class_names)} class names: give at least two.")
    for name in task.class_names:
        if fault := fault_of(name):
            raise InputError(f"Task '{task.name}' has a class whose name {name!r} {fault}: give it another one.")
    unusable = [template for template in task.templates if not is_template(template)]
    if unusable or not task.templates:
        given = unusable or "none"
        raise InputError(f"Task '{task.name}' needs templates with one {{}} for the class name, not {given}.")
