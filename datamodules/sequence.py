"""The datamodule that ``fit`` sees: tasks one after the other, one Lightning epoch each."""

import time
from collections.abc import Callable
from itertools import accumulate
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader, Subset

from datamodules.base import ImageSet, Replay, Task, is_template
from datamodules.decoded import decoded_bytes, decoded_images
from datamodules.images.damage import DamagedImages, damaged_paths
from datamodules.label_space import AmongTasks, LabelSpace, notes_on_names
from datamodules.selection import FewShot, everything
from datamodules.shard import ReplayImages, TestShard, replay_images
from datamodules.stream import ReplayDraws, SeededSamples, Split, StepBatches, StepLoader
from datamodules.substitutes import Substitutes
from gift_lightning.errors import InputError
from gift_lightning.files import path_of
from gift_lightning.names import alike_as_files, fault_of, fault_of_task


class TaskSequence(LightningDataModule):
    """A sequence of tasks, learned in the given order.

    Args:
        tasks: the tasks; their names must differ. One that is cut into several stands for all of them.
        batch_size: images in one optimiser step, over all devices and accumulated batches.
        steps: optimiser steps per task, or ``"epoch"`` for one pass over each task's training set.
        num_workers: processes that load and transform images; 0 loads in the training process.
        shuffle: ``False`` takes training images, and replayed pairs, in their stored order.
        seed: seed of the order and the augmentation of training images; ``seed_everything`` sets it.
        replay: image-text pairs for the methods that replay.
        label_space: what test images are told apart from: the classes of their own task, those of all tasks learned so
            far (``seen``, for class-incremental learning), or of the whole sequence (``all``).
        shots: training images of each class, drawn at random with ``seed``, for the tasks that do not say it; ``None``
            for all.
        root: the folder in which known data sets lie, as torchvision keeps them, for the tasks that name none.
        cache: folder for decoded test images, which all runs that name it share; ``None`` decodes them anew in each
            run and keeps them in memory.
        on_bad_image: what training does about an image that does not decode: stop, or take another one of the task in
            its place and say so in the results. In testing it stops in any case.

    Attributes:
        report: shows one line of text on how far the decoding of test images is, each time in the place of the last.
        skipped: for each trained task that met bad images, ``{"draws": how often the task's loss met one,
            "images": which}``.
        preparation_seconds: how long the replay set of the current task took to make or read.
    """

    INDIFFERENT = frozenset({"num_workers", "root", "cache"})
    """See ``gift_lightning.runs.same_run``; what is in the data sets has a fingerprint."""

    def __init__(
        self,
        tasks: list[Task],
        batch_size: int = 64,
        steps: int | Literal["epoch"] = 1000,
        num_workers: int = 0,
        shuffle: bool = True,
        seed: int = 0,
        replay: Replay | None = None,
        label_space: LabelSpace = "task",
        shots: int | None = None,
        root: str = "data",
        cache: str | None = None,
        on_bad_image: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__()
        for task in tasks:
            task.root = task.root or path_of(root)
        self.tasks = [step for task in tasks for step in task.subtasks()]
        self.batch_size, self._steps = batch_size, steps
        self.label_space, self.shots = label_space, shots
        self.num_workers, self.shuffle, self.seed = num_workers, shuffle, seed
        self._shards: dict[int, TestShard] = {}
        self.cache = cache
        self.report: Callable[[str], None] | None = None
        self.skipped: dict[str, dict[str, Any]] = {}
        self._damaged = DamagedImages(self)
        self._substitutes = Substitutes(self) if on_bad_image == "skip" else None
        self.replay, self._replay_draws, self.preparation_seconds = replay, ReplayDraws(), 0.0
        self._replayed: Any = None
        if replay is not None:
            replay.sequence = self
        self._check_arguments()

    def state_dict(self) -> dict[str, Any]:
        parts = {"replay": self.replay, "substitutes": self._substitutes}
        state = {name: part.state_dict() for name, part in parts.items() if part is not None}
        facts = {"skipped": self.skipped, "damaged": self._damaged.collect()}
        return state | {name: fact for name, fact in facts.items() if fact}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, part in {"replay": self.replay, "substitutes": self._substitutes}.items():
            if part is not None and name in state_dict:
                part.load_state_dict(state_dict[name])
        self.skipped = state_dict.get("skipped", {})
        for name, paths in state_dict.get("damaged", {}).items():
            self._damaged.add(name, paths)

    @property
    def damaged(self) -> dict[str, list[str]]:
        """Paths of images that decode although libjpeg found them damaged, by the name of their task; of those read."""
        return self._damaged.found

    @property
    def num_tasks(self) -> int:
        return len(self.tasks)

    @property
    def names(self) -> list[str]:
        return [task.name for task in self.tasks]

    def steps(self, task: int) -> int:
        """Optimiser steps of task number ``task`` (from 0)."""
        if self._steps == "epoch":
            return -(-len(self.tasks[task].train_set) // self.batch_size)
        return int(self._steps)

    def known_steps(self) -> dict[str, int]:
        """Optimiser steps of the tasks by name; if a pass over its images counts, of each task that is set up."""
        tasks = enumerate(self.tasks)
        return {t.name: self.steps(i) for i, t in tasks if self._steps != "epoch" or hasattr(t, "train_set")}

    def first_step(self, task: int) -> int:
        """The global step at which ``task`` starts; ``first_step(num_tasks)`` is the length of the whole sequence."""
        return [0, *accumulate(self.steps(t) for t in range(self.num_tasks))][task]

    def prepare_data(self) -> None:
        for task in self.tasks:
            task.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        self._shards.clear()  # they depend on the trainer's ranks and the model's transform
        sources: list[Task | Replay] = [*self.tasks]
        if self.trainer is not None and stage == "fit":
            self._check_division(self._split())
            sources += [] if self.replay is None else [self.replay]
        _set_up(sources, stage or "fit")
        for task in self.tasks:
            _check_task(task)
            task.train_set = everything(task.train_set)  # another sequence may have taken few of it
            if shots := self.shots_of(task):
                task.train_set = FewShot(task.train_set, shots, (self.seed, task.name))

    def shots_of(self, task: Task) -> int | None:
        """Training images of each class of a task; ``None`` for all."""
        return self.shots if task.shots is None else task.shots

    def notes(self) -> list[str]:
        """What a user should know of the data, each sentence once; after ``setup``."""
        sources: list[Task | Replay] = [*self.tasks] if self.replay is None else [*self.tasks, self.replay]
        sentences = [sentence for source in sources for sentence in source.notes()]
        return list(dict.fromkeys([*sentences, *notes_on_names(self.tasks, self.label_space)]))

    def candidates(self, task: int, learned: int) -> Task | None:
        """Task number ``task`` with the classes that its images are told apart from after ``learned`` tasks.

        ``None`` if they are not to be told apart yet. Before the first task, those of the whole sequence are.
        """
        if self.label_space == "task":
            return self.tasks[task]
        known = self.num_tasks if self.label_space == "all" or learned == 0 else learned
        return AmongTasks(self.tasks[:known], task) if task < known else None

    def replays_in(self, task: int) -> bool:
        """Whether ``task`` has a replay set."""
        return self.replay is not None and task >= self.replay.first_task

    def prepare_task(self, task: int) -> None:
        """Called before anything else of ``task`` and whenever a run resumes into it: makes or reads its replay set."""
        if self.replay is not None and self.replays_in(task):
            began, clip = time.monotonic(), self._clip
            self.replay.prepare_task(task)
            if self.replay.pairs is not self._replayed:
                self._replayed = self.replay.pairs
                self._replay_draws.images = replay_images(
                    self._few(self.replay.pairs), clip.test_geometry, clip.normalize, self.num_workers
                )
            self.preparation_seconds = time.monotonic() - began

    @property
    def replay_images(self) -> ReplayImages:
        """All images of the current task's replay set, with the indices of their prompts as labels."""
        return self._replay_draws.images

    def train_set(self, task: int) -> ImageSet:
        """The training images of ``task``, with others in the place of bad ones if they are to be skipped."""
        return self.tasks[task].train_set if self._substitutes is None else self._substitutes.train_set(task)

    def on_task_trained(self, task: int) -> None:
        """Called after the last step of ``task``, on every rank."""
        used = None if self._substitutes is None else self._substitutes.used(task)
        if used is not None:
            self.skipped[self.names[task]] = used
        self._damaged.collect()

    def on_evaluated(self) -> None:
        """Called after an evaluation, on every rank."""
        self._damaged.collect()

    def train_dataloader(self) -> CombinedLoader:
        """The streams of the task that Lightning's epoch stands for.

        ``{"task": (images, labels)}``, and in a task with replay ``"replay": (images, prompt indices, pair indices)``.
        """
        assert self.trainer is not None
        # a resumed run that is already complete asks for the loaders of an epoch that does not exist
        task = min(self.trainer.current_epoch, self.num_tasks - 1)
        key = (self.seed, "task", task)
        train_set = SeededSamples(self.train_set(task), self._clip.train_transform, key)
        loaders = {"task": self._loader(task, train_set, self.batch_size, key)}
        if self.replay is not None and self.replays_in(task):
            loaders["replay"] = self._loader(
                task, self._replay_draws, self.replay.batch_size, (self.seed, "replay", task)
            )
        return CombinedLoader(loaders, mode="min_size")

    def _few(self, pairs: ImageSet) -> ImageSet:
        """As many as one batch needs, for a run that only tries whether all works; else all."""
        assert self.trainer is not None and self.replay is not None
        if not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return pairs
        return Subset(pairs, range(min(len(pairs), self.replay.batch_size)))  # type: ignore[arg-type, return-value]

    def _loader(self, task: int, samples: Any, batch_size: int, key: tuple[int | str, ...]) -> StepLoader:
        batches = StepBatches(samples, batch_size, self.steps(task), key, self.shuffle, self._split())
        return StepLoader(task, samples, batches, self.num_workers, pin_memory=self._device.type == "cuda")

    def loader_of(self, images: ImageSet, steps: int, *name: int | str) -> DataLoader[Any]:
        """This rank's share of ``steps`` batches of augmented images, in a stream beside those of the steps."""
        key, split = (self.seed, *name), self._split()
        samples = SeededSamples(images, self._clip.train_transform, key)
        whole = Split(split.rank, split.world_size)
        batches = StepBatches(samples, self.batch_size, steps, key, self.shuffle, whole)
        return DataLoader(samples, batch_sampler=batches, num_workers=self.num_workers)

    def place(self, batch_idx: int) -> tuple[int, int]:
        """Where this rank's batch lies in that of its optimiser step: its first image, and images of the whole."""
        split = self._split()
        part = batch_idx % split.accumulate * split.world_size + split.rank
        return part * self.batch_size // (split.world_size * split.accumulate), self.batch_size

    def test_dataloader(self) -> DataLoader[int]:
        """One batch for each task: its number. Every rank visits all tasks and evaluates its shard of each."""
        return DataLoader(range(self.num_tasks), batch_size=None)  # type: ignore[arg-type]

    def test_shard(self, task: int, limit: int | None = None) -> TestShard:
        """This rank's part of the test set of ``task``; ``limit`` keeps only the first images of the set.

        All ranks have to call this: they decode what is not in the cache together.
        """
        if task not in self._shards:
            self._shards[task] = self._test_shard(self.tasks[task], limit)
        return self._shards[task]

    def _test_shard(self, task: Task, limit: int | None) -> TestShard:
        split, clip, workers = self._split(), self._clip, self.num_workers
        rank, ranks = split.rank, split.world_size
        if self.cache is None or limit is not None or not decoded_bytes(task, clip.test_geometry):
            geometry, normalize = clip.test_geometry, clip.normalize
            return TestShard(task.test_set, geometry, normalize, rank, ranks, workers, limit, self._device)
        folder = path_of(self.cache)
        content = decoded_images(self.trainer, folder, task, clip.test_geometry, workers, self.report)
        images, labels, damage = content
        self._damaged.add(task.name, damaged_paths(task.test_set, damage))
        return TestShard.of(images[rank::ranks], labels[rank::ranks], clip.normalize, self._device)

    @property
    def _clip(self) -> Any:
        assert self.trainer is not None
        return self.trainer.lightning_module.clip

    @property
    def _device(self) -> torch.device:
        assert self.trainer is not None
        return self.trainer.strategy.root_device

    def _split(self) -> Split:
        trainer = self.trainer
        assert trainer is not None
        return Split(trainer.global_rank, trainer.world_size, trainer.accumulate_grad_batches)

    def _check_arguments(self) -> None:
        if not self.tasks:
            raise InputError("data.tasks is empty: name at least one task.")
        self._check_names()
        if self._steps != "epoch" and int(self._steps) < 1:
            raise InputError(f"data.steps is {self._steps}: give at least 1 optimiser step per task, or 'epoch'.")
        if self.batch_size < 1:
            raise InputError(f"data.batch_size is {self.batch_size}: give at least 1.")
        given = {"data.shots": self.shots} | {f"shots of task '{task.name}'": task.shots for task in self.tasks}
        for key, shots in given.items():
            if shots is not None and shots < 1:
                raise InputError(f"{key} is {shots}: give at least 1 image of each class, or null for all.")
        if self.num_workers < 0:
            raise InputError(f"data.num_workers is {self.num_workers}: give 0 (load while training) or more.")

    def _check_names(self) -> None:
        spellings: dict[str, str] = {}
        for name in self.names:
            if fault := fault_of_task(name):
                raise InputError(f"The name {name!r} of a task {fault}: give it a short name, which folders can have.")
            other = spellings.setdefault(alike_as_files(name), name)
            if other != name:
                which = f"tasks named '{other}' and '{name}', which some file systems take for the same"
                raise InputError(f"data.tasks has {which}: give each task its own name.")
        if twice := [name for name in self.names if self.names.count(name) > 1]:
            raise InputError(f"data.tasks has more than one task named '{twice[0]}': give each task its own name.")

    def _check_division(self, split: Split) -> None:
        parts = split.world_size * split.accumulate
        sizes = {"data.batch_size": self.batch_size}
        if self.replay is not None:
            sizes["data.replay.batch_size"] = self.replay.batch_size
        for name, size in sizes.items():
            if size % parts == 0:
                continue
            raise InputError(
                f"{name} {size} does not divide into {split.world_size} devices x"
                f" {split.accumulate} accumulated batches: choose a multiple of {parts}."
            )


def _set_up(sources: list[Task | Replay], stage: str) -> None:
    """Set up all of them, so that one message tells what the first one lacks and how many more lack something."""
    faults = []
    for source in sources:
        try:
            source.setup(stage)
        except InputError as error:
            faults.append(error)
    if faults:
        told, others = str(faults[0]).removesuffix("."), len(faults) - 1
        if others:
            told += f", and {others} more {'source' if others == 1 else 'sources'} of images cannot be used"
        raise InputError(f"{told} ('python -m gift_lightning doctor' says more).") from faults[0]


def _check_task(task: Task) -> None:
    for split, samples in (("training", task.train_set), ("test", task.test_set)):
        if len(samples) == 0:
            raise InputError(f"Task '{task.name}' has no {split} images: check its folder and its settings.")
    if len(task.class_names) < 2:
        raise InputError(f"Task '{task.name}' has {len(task.class_names)} class names: give at least two.")
    for name in task.class_names:
        if fault := fault_of(name):
            raise InputError(f"Task '{task.name}' has a class whose name {name!r} {fault}: give it another one.")
    wrong = [template for template in task.templates if not is_template(template)]
    if wrong or not task.templates:
        raise InputError(f"Task '{task.name}' needs templates with one {{}} for the class name, not {wrong or 'none'}.")
