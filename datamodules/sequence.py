"""The datamodule that ``fit`` sees: tasks one after the other, one Lightning epoch each."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any, Literal

from lightning import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader, Subset

from datamodules.base import ImageSet, Replay, Task
from datamodules.evaluation import EvaluationShards
from datamodules.events import TaskEvents
from datamodules.faults import ImageFaults
from datamodules.images.selection import FewShot
from datamodules.label_space import AmongTasks, LabelSpace, notes_on_names
from datamodules.preprocessing import Preprocessing
from datamodules.sequence_checks import check_arguments, check_division, check_task, set_up
from datamodules.shard import ReplayImages, TestShard, replay_images
from datamodules.stream import ReplayDraws, SeededSamples, Split, StepBatches, StepLoader
from gift_lightning.files import path_of


class TaskSequence(LightningDataModule, TaskEvents):
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
        faults: the images with faults, as far as they were read.
        preprocessing: that of the trainer's model, taken in ``setup``; data reaches the model through it alone.
        report: shows one line of text on how far the decoding of test images is, each time in the place of the last.
    """

    INDIFFERENT = frozenset({"num_workers", "root", "cache"})
    """See ``gift_lightning.runs.same_run``; what is in the data sets has a fingerprint."""

    preprocessing: Preprocessing
    _shards: EvaluationShards

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
        self.tasks = [part for task in tasks for part in task.subtasks()]
        check_arguments(self.tasks, batch_size, steps, num_workers, shots)
        self.batch_size, self._steps = batch_size, steps
        self.label_space, self.shots, self.cache = label_space, shots, cache
        self.num_workers, self.shuffle, self.seed = num_workers, shuffle, seed
        self.faults = ImageFaults(self, skips=on_bad_image == "skip")
        self.report: Callable[[str], None] | None = None
        self._few_shots: dict[int, FewShot] = {}
        self.replay, self._replay_draws = replay, ReplayDraws()
        self._replayed: ImageSet | None = None
        if replay is not None:
            replay.sequence = self

    def state_dict(self) -> dict[str, Any]:
        """What this rank knows. No collective call is made: ``TaskBoundary`` lets ranks exchange it before a save."""
        state = {} if self.replay is None else {"replay": self.replay.state_dict()}
        return state | self.faults.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.replay is not None and "replay" in state_dict:
            self.replay.load_state_dict(state_dict["replay"])
        self.faults.load_state_dict(state_dict)

    @property
    def num_tasks(self) -> int:
        return len(self.tasks)

    @property
    def names(self) -> list[str]:
        return [task.name for task in self.tasks]

    def steps(self, task: int) -> int:
        """Optimiser steps of task number ``task`` (from 0)."""
        if self._steps == "epoch":
            return -(-len(self.selection(task)) // self.batch_size)
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
        """Set up tasks and replay; may be called again, with any stage, trainer and model."""
        sources: list[Task | Replay] = [*self.tasks]
        if self.trainer is not None:
            trainer: Any = self.trainer
            self.preprocessing = trainer.lightning_module.clip
            self._shards = EvaluationShards(trainer, self.preprocessing, self.cache, self.num_workers, self.faults)
            self._replayed = None  # its images were decoded for the trainer and the model before
            if stage == "fit":
                self._check_division()
                sources += [] if self.replay is None else [self.replay]
        set_up(sources, stage or "fit")
        for task in self.tasks:
            check_task(task)

    def shots_of(self, task: Task) -> int | None:
        """Training images of each class of a task; ``None`` for all."""
        return self.shots if task.shots is None else task.shots

    def selection(self, task: int) -> ImageSet:
        """The training images of ``task`` that count: ``shots`` of each class, or all; the same object each time.

        The task, which is set up, stays as it is: its own ``train_set`` has all of them.
        """
        current = self.tasks[task]
        if (shots := self.shots_of(current)) is None:
            return current.train_set
        if task not in self._few_shots or self._few_shots[task].whole is not current.train_set:
            self._few_shots[task] = FewShot(current.train_set, shots, (self.seed, current.name))
        return self._few_shots[task]

    def train_set(self, task: int) -> ImageSet:
        """The selection of ``task`` as training reads it, with others in the place of bad images if it skips those."""
        return self.faults.train_set(task)

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
        if self.replay is None or not self.replays_in(task):
            return
        self.replay.prepare_task(task)
        if self.replay.pairs is not self._replayed:
            self._replayed, model = self.replay.pairs, self.preprocessing
            images = self._enough(self.replay.pairs, self.replay.batch_size)
            self._replay_draws.images = replay_images(images, model.test_geometry, model.normalize, self.num_workers)

    def _enough(self, pairs: ImageSet, batch_size: int) -> ImageSet:
        """All pairs; those of one batch in a run that only tries whether all works."""
        trainer: Any = self.trainer
        return Subset(pairs, range(min(len(pairs), batch_size))) if trainer.fast_dev_run else pairs  # type: ignore[arg-type, return-value]

    @property
    def replay_images(self) -> ReplayImages:
        """All images of the current task's replay set, with the indices of their prompts as labels."""
        return self._replay_draws.images

    def on_task_trained(self, task: int) -> None:
        """Called after the last step of ``task``, on every rank."""
        self.faults.on_task_trained(task)

    def train_dataloader(self) -> CombinedLoader:
        """The streams of the task that Lightning's epoch stands for.

        ``{"task": (images, labels)}``, and in a task with replay ``"replay": (images, prompt indices, pair indices)``.
        """
        assert self.trainer is not None
        # a resumed run that is already complete asks for the loaders of an epoch that does not exist
        task = min(self.trainer.current_epoch, self.num_tasks - 1)
        key = (self.seed, "task", task)
        train_set = SeededSamples(self.train_set(task), self.preprocessing.train_transform, key)
        loaders = {"task": self._loader(task, train_set, self.batch_size, key)}
        if self.replay is not None and self.replays_in(task):
            loaders["replay"] = self._loader(
                task, self._replay_draws, self.replay.batch_size, (self.seed, "replay", task)
            )
        return CombinedLoader(loaders, mode="min_size")

    def _loader(self, task: int, samples: Any, batch_size: int, key: tuple[int | str, ...]) -> StepLoader:
        batches = StepBatches(samples, batch_size, self.steps(task), key, self.shuffle, self._split())
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return StepLoader(task, samples, batches, self.num_workers, pin_memory=on_gpu)

    def loader_of(self, images: ImageSet, steps: int, *name: int | str) -> DataLoader[Any]:
        """This rank's share of ``steps`` batches of augmented images, in a stream beside those of the steps."""
        key, split = (self.seed, *name), self._split()
        samples = SeededSamples(images, self.preprocessing.train_transform, key)
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
        """This rank's part of the test set of ``task``, see ``EvaluationShards.shard``; all ranks have to call this."""
        return self._shards.shard(self.tasks[task], limit, self.report)

    def _split(self) -> Split:
        trainer = self.trainer
        assert trainer is not None
        return Split(trainer.global_rank, trainer.world_size, trainer.accumulate_grad_batches)

    def _check_division(self) -> None:
        replayed = {} if self.replay is None else {"`data.replay.batch_size`": self.replay.batch_size}
        check_division({"`data.batch_size`": self.batch_size, **replayed}, self._split())
