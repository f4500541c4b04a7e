"""What a run will take of disk and memory, as far as its config tells: estimates, not limits."""

import math
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jsonargparse import Namespace

from datamodules import TaskSequence
from datamodules.image_cache import LEAST_CACHED_BYTES
from gift_lightning.clip.text import TextTower
from gift_lightning.commands.doctor.activations import activation_bytes
from gift_lightning.files import path_of
from gift_lightning.methods import ContinualCLIP
from gift_lightning.sources import Inspection

FLOAT = 4
"""Bytes of a parameter: weights, gradients and optimiser are in float32, whatever the precision of a step."""

PROMPTS, PROMPT_TOKENS = 100, 16
"""Class prompts where the names of classes are not known yet, and tokens of a usual prompt."""


@dataclass(frozen=True)
class Size:
    """Numbers of parameters.

    Attributes:
        clip: of the CLIP.
        trained: of those that learn.
        frozen: of all others: the copies that a method keeps.
        keeps_gradient: whether the gradient of a replay loss is stored beside that of the task.
        image: bytes of an image as the CLIP takes it, in uint8.
    """

    clip: int
    trained: int
    frozen: int
    keeps_gradient: bool
    image: int

    @classmethod
    def of(cls, method: ContinualCLIP) -> "Size":
        """That of a method."""
        counts = [
            (parameter.numel(), parameter.requires_grad and method.learning == "steps")
            for parameter in method.parameters()
        ]
        return cls(
            clip=sum(parameter.numel() for parameter in method.clip.parameters()),
            trained=sum(count for count, is_trained in counts if is_trained),
            frozen=sum(count for count, is_trained in counts if not is_trained),
            keeps_gradient=method.keeps_replay_gradient,
            image=3 * math.prod(method.clip.model.visual.image_size),
        )

    @property
    def memory(self) -> int:
        """Bytes on the device: weights, gradients and the two moments of Adam, and frozen copies."""
        return FLOAT * ((5 if self.keeps_gradient else 4) * self.trained + self.frozen)

    @property
    def weights(self) -> int:
        """Bytes of the file of weights that each task leaves."""
        return FLOAT * self.clip

    def checkpoints(self, tasks: int) -> int:
        """Bytes of what a run leaves: the weights after each task, and the checkpoint to go on from.

        That holds all parameters and the moments of Adam; there are two of them while one replaces the other.
        """
        return tasks * self.weights + 2 * FLOAT * (3 * self.trained + self.frozen)


@dataclass(frozen=True)
class Need:
    """Space that a run, or getting its data, takes.

    Attributes:
        what: takes it.
        bytes: about how much.
        folder: where; it need not exist yet.
    """

    what: str
    bytes: int
    folder: Path

    @property
    def free(self) -> int:
        """Bytes that are free in its file system."""
        return shutil.disk_usage(_existing(self.folder)).free

    @property
    def device(self) -> int:
        """Number of its file system."""
        return _existing(self.folder).stat().st_dev


def needs_of_sources(data: Sequence[Inspection], needed: Sequence[Inspection]) -> list[Need]:
    """Space for missing files and for drawn images, as far as their sizes are known.

    Args:
        data: the verdicts on the data sets.
        needed: those on all other sources.
    """
    fetched = [(each, each.into or each.where) for each in needed if each.can_be_fetched]
    needs = [Need(each.name, each.bytes, folder) for each, folder in fetched if each.bytes and folder]
    drawn = [Need(_left(each), each.to_write, each.where) for each in needed if each.to_write and each.where]
    return [*_needs_of_data(data), *needs, *drawn]


def _needs_of_data(inspections: Iterable[Inspection]) -> list[Need]:
    """Space for the data sets that are missing: archives, and as much again for what is in them."""
    systems: dict[int, list[tuple[Path, int]]] = {}
    for each in inspections:
        if each.status == "missing" and each.bytes and each.where:
            systems.setdefault(_existing(each.where).stat().st_dev, []).append((each.where, each.bytes))
    needs = []
    for entries in systems.values():
        folders, sizes = zip(*entries, strict=True)
        needs.append(Need("data sets, packed and unpacked", 2 * sum(sizes), common_folder(folders)))
    return needs


def _left(inspection: Inspection) -> str:
    """The files that a run writes of a source, with their number if it is known."""
    counts, expected = inspection.counts, inspection.expected
    return f"{sum(expected) - sum(counts)} {inspection.name}" if counts and expected else inspection.name


def needs_of_run(size: Size, data: Sequence[Inspection], sequence: TaskSequence, folder: Path) -> list[Need]:
    """Space for what a run leaves: weights and checkpoints in its ``folder``, and decoded test images."""
    needs = [Need("checkpoints and weights", size.checkpoints(sequence.num_tasks), folder)]
    if sequence.cache is not None:
        counts = [counted[1] for each in data if (counted := each.expected or each.counts)]
        files = sum(count * size.image for count in counts if count * size.image > LEAST_CACHED_BYTES)
        folder = path_of(sequence.cache)
        files -= sum(file.stat().st_size for file in folder.glob("*")) if folder.is_dir() else 0
        needs += [Need("decoded test images", files, folder)] if files > 0 else []
    return needs


def activations_of_run(method: ContinualCLIP, sequence: TaskSequence, trainer: Namespace) -> int | None:
    """Bytes that one batch takes on one device, see ``activation_bytes``.

    The batch is the larger of that of the task and that of the replay, with the prompts of the task with most classes.
    """
    replay, parts = sequence.replay, _devices(trainer.devices) * trainer.num_nodes * trainer.accumulate_grad_batches
    replayed = 0 if replay is None else replay.batch_size
    classes = [len(getattr(task, "class_names", ())) for task in sequence.tasks]
    prompts = (sum(classes) if method.classes == "seen" else max(classes)) or PROMPTS
    texts = max(prompts, replayed // parts if getattr(method, "trains_on_texts", False) else 0)
    tower = TextTower(method.clip.model)
    tokens = min(PROMPT_TOKENS, tower.context_length) if tower.can_be_cut else method.clip.model.context_length
    images = max(1, max(sequence.batch_size, replayed) // parts)
    return activation_bytes(method, images, (texts, tokens), half="mixed" in str(trainer.precision))


def _devices(setting: int | str | list[int]) -> int:
    """Devices of a machine, from ``trainer.devices``; those that Lightning would count are one."""
    if isinstance(setting, list):
        return len(setting)
    return max(1, int(setting)) if str(setting).isdecimal() else 1


def machine_memory(accelerator: str) -> tuple[str, int] | None:
    """The device that a run would take and its bytes of memory; ``None`` where the system does not tell.

    For a GPU: the free bytes.
    """
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name(0), torch.cuda.mem_get_info(0)[0]
    try:
        return "this machine", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return None


def common_folder(paths: Sequence[Path]) -> Path:
    """The nearest folder above all of them: the data root of what lies in one."""
    return Path(os.path.commonpath([path.absolute().parent for path in paths]))


def _existing(path: Path) -> Path:
    """The nearest folder above that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
