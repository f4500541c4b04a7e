"""Features of test images under each model that a finished run has kept."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from datamodules import TaskSequence
from datamodules.shard import TestShard
from gift_lightning.clip import CLIP
from gift_lightning.config.references import from_environment
from gift_lightning.errors import InputError
from gift_lightning.methods import ConDU
from gift_lightning.records.feature_map import PROJECTIONS, FeatureMap, ImageOfTask, check_projection, projected
from gift_lightning.records.protocol import first_changed_task, protocol
from gift_lightning.records.report.replay_grid import spread
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.load import final_clip, load_start, made, put_weights
from gift_lightning.tensors import load_tensors

_BATCH = 128  # images in one forward pass
_IMAGES, _POINTS = 100, 20_000  # of a task, and of the map, at most


@torch.no_grad()
def feature_map(
    folder: RunFolder, images: int | None, report: Callable[[str], None], projection: str = "tsne"
) -> FeatureMap:
    """The test images of all tasks of a run in the plane, by one projection of their features under all its models.

    The models are the pre-trained one and, of ConDU, the expert of each task, of other methods, the model after each.
    They compute on a GPU if there is one.

    Args:
        folder: of the run.
        images: of each task, evenly spread over its test set, all if it has fewer; ``None`` for ``default_images``.
        report: shows one line of text on the progress, each time in the place of the last.
        projection: one of ``PROJECTIONS``.

    Raises:
        InputError: there is no finished run in the folder; its data or weights are missing or have changed; its method
            keeps neither a model after each task nor experts; or ``projected`` refuses the features.
    """
    check_projection(projection)
    final_clip(folder)  # says what is wrong with the run
    _check_weights(folder)
    sequence = _sequence(folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clip, models = _models(folder, sequence.names, device)
    _check_data(folder, sequence, clip)
    report(f"Reading test images of {sequence.num_tasks} tasks")
    shards, shown = [], []
    for number, task in enumerate(sequence.tasks):
        count = images or default_images(sequence.num_tasks, len(models), len(task.class_names))
        chosen = spread(len(task.test_set), count)
        part: Any = Subset(task.test_set, chosen)  # type: ignore[arg-type]
        shards.append(TestShard(part, clip.test_geometry, clip.normalize, device=device))
        labels = shards[-1].labels.tolist()
        shown += [
            ImageOfTask(number, image, label, task.class_names[label])
            for image, label in zip(chosen, labels, strict=True)
        ]
    features = []
    for number, (name, put) in enumerate(models.items(), 1):
        report(f"Features of {len(shown)} images under model {number} of {len(models)}: {name}")
        put()
        features.append(torch.cat([_encoded(clip, shard) for shard in shards]))
    points = (
        f"{len(shown) * len(models)} points, {len(shown)} images under {len(models)} model{'s' * (len(models) > 1)}"
    )
    report(f"{PROJECTIONS[projection]} of {points}")
    return FeatureMap([*models], sequence.names, shown, projected(torch.stack(features).numpy(), projection))


def default_images(tasks: int, models: int, classes: int) -> int:
    """Test images of a task in the map: 100, or fewer for at most 20 000 points, but as many as classes, up to 100.

    Args:
        tasks: number of tasks, whose images have one point for each model.
        models: number of models.
        classes: of the task.

    >>> default_images(tasks=11, models=12, classes=102), default_images(tasks=50, models=51, classes=2)
    (100, 7)
    """
    return min(_IMAGES, max(_POINTS // (tasks * models), classes, 2))


def _encoded(clip: CLIP, shard: TestShard) -> Tensor:
    rows = torch.arange(len(shard)).split(_BATCH)
    return torch.cat([clip.encode_image(shard[batch]).cpu() for batch in rows])


def _sequence(folder: RunFolder) -> TaskSequence:
    """The tasks of a run, set up to test."""
    settings = from_environment(folder.read_config(), "data")
    settings.pop("replay", None)
    described = {"class_path": "datamodules.TaskSequence", "init_args": settings}
    sequence = made(TaskSequence, "data", described, folder.config)
    sequence.prepare_data()
    sequence.setup("validate")
    return sequence


def _check_data(folder: RunFolder, sequence: TaskSequence, start: CLIP) -> None:
    """Raise an ``InputError`` if the data or the starting weights are not those of the run, as ``fit`` does."""
    before, now = folder.finished_results()["protocol"], protocol(sequence, start)
    if before["id"] != now["id"]:
        changed = "data, prompts or starting weights have"
    elif task := first_changed_task(before.get("file_sizes", {}), now["file_sizes"]):
        changed = f"images of task '{task}' have"
    else:
        return
    raise InputError(f"The {changed} changed since the run in {folder.path}: restore them, or run again.")


def _check_weights(folder: RunFolder) -> None:
    """Raise an ``InputError`` if the run lacks weights that it kept after a task."""
    results = folder.finished_results()
    if results["learns"] and not folder.knowledge.is_file():
        for number in range(len(results["tasks"])):
            if not (file := folder.task_weights(number)).is_file():
                raise InputError(f"{file} is missing: restore it, or run again.")


def _models(folder: RunFolder, tasks: list[str], device: torch.device) -> tuple[CLIP, dict[str, Callable[[], None]]]:
    """The pre-trained CLIP, and the models of a run: by name, what gives this CLIP the weights of that model."""
    method = load_start(folder.path)
    models: dict[str, Callable[[], None]] = {"pre-trained": lambda: None}  # the first one
    if isinstance(method, ConDU):
        method.load_knowledge(load_tensors(folder.knowledge))
        experts = {f"expert of {task}": number for number, task in enumerate(method.learned)}
        models |= {name: partial(method.reconstruct_expert, number) for name, number in experts.items()}
        return method.to(device).clip, models
    if folder.knowledge.is_file():
        kind = type(method).__name__
        raise InputError(
            f"{folder.path} has no features to show: {kind} keeps no weights of the model after each task."
        )
    clip = method.clip.to(device)
    for number, task in enumerate(tasks if method.learning != "none" else []):
        models[f"after {task}"] = partial(put_weights, clip, folder.task_weights(number))
    return clip, models
