"""Features of test images under each model that a finished run has kept."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from datamodules import TaskSequence
from datamodules.shard import TestShard
from gift_lightning.clip import CLIP
from gift_lightning.clip.source import CLIPSource
from gift_lightning.config.parsing import make_subclass
from gift_lightning.config.references import from_environment
from gift_lightning.errors import InputError
from gift_lightning.methods import ConDU
from gift_lightning.records.feature_map import FeatureMap, ImageOfTask, projected
from gift_lightning.records.report.replay_grid import spread
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.load import final_clip, load
from gift_lightning.tensors import load_tensors

_BATCH = 128  # images in one forward pass


@torch.no_grad()
def feature_map(folder: RunFolder, images: int) -> FeatureMap:
    """The test images of all tasks of a run in the plane, by one projection of their features under all its models.

    The models are the pre-trained one and, of ConDU, the expert of each task, of other methods, the model after each.
    They compute on a GPU if there is one.

    Args:
        folder: of the run.
        images: of each task, evenly spread over its test set; all if it has fewer.

    Raises:
        InputError: there is no finished run in the folder; its data or weights are missing; or its method keeps
            neither a model after each task nor experts.
    """
    final_clip(folder)  # says what is wrong with the run
    sequence = _sequence(folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clip, models = _models(folder, sequence.names, device)
    shards, shown = [], []
    for number, task in enumerate(sequence.tasks):
        chosen = spread(len(task.test_set), images)
        part: Any = Subset(task.test_set, chosen)  # type: ignore[arg-type]
        shards.append(TestShard(part, clip.test_geometry, clip.normalize, device=device))
        labels = shards[-1].labels.tolist()
        shown += [
            ImageOfTask(number, image, label, task.class_names[label])
            for image, label in zip(chosen, labels, strict=True)
        ]
    names, features = [], []
    for name in models:
        names.append(name)
        features.append(torch.cat([_encoded(clip, shard) for shard in shards]))
    return FeatureMap(names, sequence.names, shown, projected(torch.stack(features).numpy()))


def _encoded(clip: CLIP, shard: TestShard) -> Tensor:
    rows = torch.arange(len(shard)).split(_BATCH)
    return torch.cat([clip.encode_image(shard[batch]).cpu() for batch in rows])


def _sequence(folder: RunFolder) -> TaskSequence:
    """The tasks of a run, set up to test."""
    settings = from_environment(folder.read_config(), "data")
    settings.pop("replay", None)
    described = {"class_path": "datamodules.TaskSequence", "init_args": settings}
    sequence = make_subclass(TaskSequence, "data", described)
    sequence.prepare_data()
    sequence.setup("validate")
    return sequence


def _models(folder: RunFolder, tasks: list[str], device: torch.device) -> tuple[CLIP, Iterator[str]]:
    """A CLIP, and the names of the models of a run: after each name, the CLIP has the weights of that model."""
    method = load(folder.path)
    if isinstance(method, ConDU):
        return method.to(device).clip, _experts(method)
    if folder.knowledge.is_file():
        kind = type(method).__name__
        raise InputError(
            f"{folder.path} has no features to show: {kind} keeps no weights of the model after each task."
        )
    clip = CLIPSource(**from_environment(folder.read_config(), "model")["init_args"]["clip"]).load()
    return clip.to(device).eval(), _after_each(clip, folder, tasks if method.learning != "none" else [])


def _experts(method: ConDU) -> Iterator[str]:
    yield "pre-trained"
    for number, task in enumerate(method.learned):
        method.reconstruct_expert(number)
        yield f"expert of {task}"


def _after_each(clip: CLIP, folder: RunFolder, tasks: list[str]) -> Iterator[str]:
    yield "pre-trained"
    for number, task in enumerate(tasks):
        file = folder.task_weights(number)
        if not file.is_file():
            raise InputError(f"{file} is missing: restore it, or run again.")
        clip.model.load_state_dict(load_tensors(file))
        yield f"after {task}"
