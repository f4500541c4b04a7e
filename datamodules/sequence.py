"""The datamodule that ``fit`` sees: tasks one after the other, one Lightning epoch each."""

from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from lightning import LightningDataModule
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from datamodules.base import Candidates, Replay, Task
from datamodules.evaluation import EvaluationShards
from datamodules.events import TaskEvents
from datamodules.faults import ImageFaults
from datamodules.images.sets import ImageSet
from datamodules.label_space import AmongTasks, LabelSpace, notes_on_names
from datamodules.preprocessing import CLIP_TRANSFORMS, Preprocessing
from datamodules.sequence_checks import (
    check_arguments,
    check_division,
    check_labels,
    check_task,
    preprocessing_of,
    set_up,
)
from datamodules.shard import ReplayBatch, ReplayImages, TestShard, replay_images
from datamodules.stream import Key, ReplayDraws, SeededSamples, Split, StepBatches, StepLoader
from datamodules.training_images import TrainingImages
from gift_lightning.errors import InputError
from gift_lightning.files import path_of
from gift_lightning.settings import Configurable, make_anew


class TaskSequence(LightningDataModule, TaskEvents, Configurable):
    """A sequence of tasks, learned in the given order: the data of a ``ContinualCLIP``, one epoch for each task.

    A batch is ``{"task": (images [b, 3, H, W], labels [b])}``, and in a task with a replay set also
    ``{"replay": ReplayBatch}``. Images travel to the device as uint8 where the transforms allow it, those of a small
    replay set once for the task, and are normalised there. Order and augmentation are a function of ``seed`` and the
    number of the draw, for any number of ranks, workers and restarts.

    A replay serves one sequence, and a task reads below one ``root``. Given to another sequence, the object begins anew
    there, and the earlier sequence can no longer be set up; ``gift_lightning.fit`` takes the object back for its run.

    Args:
        tasks: the tasks; their names must differ. One that is cut into several stands for all of them.
        batch_size: images in one optimiser step, over all devices and accumulated batches.
        steps: optimiser steps per task, or ``"epoch"`` for one pass over each task's training set.
        num_workers: processes that load and transform images; 0 loads in the training process.
        shuffle: ``False`` takes training images, and replayed pairs, in their stored order.
        seed: seed of the order and the augmentation of training images; ``seed_everything`` sets it.
        replay: image-text pairs for the methods that replay.
        label_space: the candidates for a test image: the classes of its task, those of all tasks learned so far
            (``seen``, for class-incremental learning), or of the whole sequence (``all``).
        shots: training images of each class, drawn at random with ``seed``, for the tasks without a number;
            ``None`` for all.
        validation_share: part of the training images that is held out, at random with ``seed``: about the same part of
            each class, and never a class's last image; or one for some tasks, by name; ``None`` for no validation. The
            model after each task is evaluated on these too, so that no setting has to be chosen on test images.
        root: the folder of the data sets of ``datamodules.mtil``, as torchvision keeps them, for the tasks that name
            none.
        cache: folder for decoded test images, which all runs that name it share; ``None`` decodes them anew in each
            run and keeps them in memory.
        on_bad_image: at an image that does not decode, training stops, or takes another image of the task in its place
            and notes it in the results. Testing always stops.

    Attributes:
        tasks: the tasks, after the cuts.
        faults: the images with faults among those that were read.
        preprocessing: that of the trainer's model, after ``setup``; CLIP's usual one for 224 pixels without a trainer.
        report: shows one line of text on the progress of decoding test images, each time in the place of the last.

    Raises:
        InputError: an argument has an impossible value, or two tasks have the same name.
    """

    INDIFFERENT = frozenset({"num_workers", "root", "cache"})
    """See ``gift_lightning.runs.same_run``; the content of the data sets has a fingerprint."""

    preprocessing: Preprocessing = CLIP_TRANSFORMS
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
        validation_share: float | dict[str, float] | None = None,
        root: str = "data",
        cache: str | None = None,
        on_bad_image: Literal["error", "skip"] = "error",
    ) -> None:
        super().__init__()
        self._root = path_of(root)
        for task in tasks:
            _give_root(task, self._root)
        self.tasks = [subtask for task in tasks for subtask in task.subtasks()]
        check_arguments(self.tasks, batch_size, steps, num_workers, shots)
        self.batch_size, self._steps = batch_size, steps
        self.label_space, self.cache = label_space, cache
        self.num_workers, self.shuffle, self.seed = num_workers, shuffle, seed
        self.faults = ImageFaults(self, skips=on_bad_image == "skip")
        self.report: Callable[[str], None] | None = None
        self.training_images = TrainingImages(self.tasks, shots, validation_share, seed)
        self._starts: list[int] | None = None  # the first step of each task
        self.replay, self._replay_draws = replay, ReplayDraws()
        self._replayed: ImageSet | None = None
        if replay is not None:
            if hasattr(replay, "sequence"):  # it has images and texts of that one
                make_anew(replay)
            replay.sequence = self

    def state_dict(self) -> dict[str, Any]:
        """The state of this rank. No collective call is made: ``TaskBoundary`` lets ranks exchange it before a save."""
        state = {} if self.replay is None else {"replay": self.replay.state_dict()}
        return state | self.faults.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.replay is not None and "replay" in state_dict:
            self.replay.load_state_dict(state_dict["replay"])
        self.faults.load_state_dict(state_dict)

    @property
    def num_tasks(self) -> int:
        """Number of tasks, after the cuts."""
        return len(self.tasks)

    @property
    def names(self) -> list[str]:
        """Names of the tasks, in the order of training."""
        return [task.name for task in self.tasks]

    def steps(self, task: int) -> int:
        """Optimiser steps of task number ``task`` (from 0), which has to be set up if a pass over its images counts."""
        if self._steps == "epoch":
            return -(-len(self.training_images.to_train(task)) // self.batch_size)
        return int(self._steps)

    def steps_by_name(self) -> dict[str, int]:
        """Optimiser steps of the tasks by name; if a pass over its images counts, of the tasks that are set up."""
        tasks = enumerate(self.tasks)
        return {t.name: self.steps(i) for i, t in tasks if self._steps != "epoch" or hasattr(t, "train_set")}

    def first_step(self, task: int) -> int:
        """The global step at which ``task`` starts; ``first_step(num_tasks)`` is the length of the whole sequence."""
        if self._starts is None:  # each step asks, and the tasks may be many
            self._starts = [0, *accumulate(self.steps(t) for t in range(self.num_tasks))]
        return self._starts[task]

    def prepare_data(self) -> None:
        """Call ``prepare_data`` of each task, in one process of each machine."""
        for task in self.tasks:
            task.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Set up tasks and replay, or without a trainer the tasks; may be called again, with another trainer and model.

        Raises:
            InputError: the trainer's model has no ``clip``; the data of a task or of the replay is missing or not
                usable; batches do not divide among ranks; or the replay or a task was given to another sequence.
        """
        self._check_given_away()
        self._starts = None
        datamodules: list[Task | Replay] = [*self.tasks]
        if (trainer := self.trainer) is not None:
            self.preprocessing = preprocessing_of(trainer)
            self._shards = EvaluationShards(trainer, self.preprocessing, self.cache, self.num_workers, self.faults)
            self._replayed = None  # its images were decoded for the trainer and the model before
            if stage == "fit":
                self._check_division()
                datamodules += [] if self.replay is None else [self.replay]
        set_up(datamodules, stage or "fit")
        for number, task in enumerate(self.tasks):
            check_task(task)
            check_labels(task, "validation", self.training_images.to_validate(number) or ())

    def train_set(self, task: int) -> ImageSet:
        """The images on which a run trains in ``task``, with others in the place of bad ones if those are skipped.

        They are those of ``training_images``; the task itself does not change, its ``train_set`` has all.
        """
        return self.faults.train_set(task)

    def notes(self) -> list[str]:
        """Sentences for the user on peculiarities of the data, each once; after ``setup``."""
        datamodules: list[Task | Replay] = [*self.tasks] if self.replay is None else [*self.tasks, self.replay]
        sentences = [sentence for datamodule in datamodules for sentence in datamodule.notes()]
        return list(dict.fromkeys([*sentences, *notes_on_names(self.tasks, self.label_space)]))

    def candidates(self, task: int, learned: int) -> Candidates | None:
        """The classes among which a model chooses for the images of ``task`` after ``learned`` tasks.

        ``None`` if its images are not tested yet. Before the first task, the classes of the whole sequence.
        """
        if self.label_space == "task":
            return self.tasks[task]
        count = self.num_tasks if self.label_space == "all" or learned == 0 else learned
        return AmongTasks(self.tasks[:count], task) if task < count else None

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
            images = self._first_batch_if_trial(self.replay.pairs, self.replay.batch_size)
            device = "cpu" if self.trainer is None else self.trainer.strategy.root_device
            self._replay_draws.images = replay_images(
                images, model.test_geometry, model.normalize, self.num_workers, device
            )

    def _first_batch_if_trial(self, pairs: ImageSet, batch_size: int) -> ImageSet:
        """All pairs; those of the first batch in a ``fast_dev_run``."""
        is_trial = self.trainer is not None and self.trainer.fast_dev_run  # type: ignore[attr-defined]
        return Subset(pairs, range(min(len(pairs), batch_size))) if is_trial else pairs  # type: ignore[arg-type, return-value]

    @property
    def replay_images(self) -> ReplayImages:
        """All images of the current task's replay set, with the indices of their texts as labels."""
        return self._replay_draws.images

    def replay_batch(self, pair_index: Tensor) -> ReplayBatch:
        """Pairs of the current task's replay set by their index ``[b]``, as in a batch of the training stream."""
        trainer = self.trainer
        assert trainer is not None
        batch = move_data_to_device(ReplayBatch.of(self.replay_images, pair_index), trainer.strategy.root_device)
        converted = trainer.precision_plugin.convert_input(batch.received(self.replay_images))
        assert isinstance(converted, ReplayBatch)
        return converted

    def replayed(self, task: int) -> dict[int, int]:
        """The replay images that the steps of ``task`` draw: the last step that draws each, by its number in the set.

        The steps count from the first one of the task, and the images come in the order of these steps. The replay set
        has to be prepared.
        """
        assert self.replay is not None
        key = (self.seed, "replay", task)
        whole = StepBatches(self._replay_draws, self.replay.batch_size, self.steps(task), key, self.shuffle, Split())
        last = {index: step for step, batch in enumerate(whole) for index, _ in batch}
        return dict(sorted(last.items(), key=lambda item: (item[1], item[0])))

    def on_task_trained(self, task: int) -> None:
        """Called after the last step of ``task``, on every rank."""
        self.faults.on_task_trained(task)

    def train_dataloader(self) -> CombinedLoader:
        """The streams of the task that is Lightning's epoch; for a batch see ``TaskSequence``."""
        if self.trainer is None:
            raise InputError("A TaskSequence has loaders in a run alone: call fit, or use the loaders of each task.")
        # a resumed run that is already complete asks for the loaders of an epoch that does not exist
        task = min(self.trainer.current_epoch, self.num_tasks - 1)
        key = (self.seed, "task", task)
        train_set = SeededSamples(self.train_set(task), self.preprocessing.train_geometry, key)
        loaders = {"task": self._loader(task, train_set, self.batch_size, key)}
        if self.replay is not None and self.replays_in(task):
            loaders["replay"] = self._loader(
                task, self._replay_draws, self.replay.batch_size, (self.seed, "replay", task)
            )
        return CombinedLoader(loaders, mode="min_size")

    def _loader(self, task: int, samples: SeededSamples | ReplayDraws, batch_size: int, key: Key) -> StepLoader:
        batches = StepBatches(samples, batch_size, self.steps(task), key, self.shuffle, self._split())
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return StepLoader(task, samples, batches, self.num_workers, pin_memory=on_gpu)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise the images of a training batch, on the device; in testing a batch is the number of a task."""
        if not isinstance(batch, dict):
            return batch
        images, labels = batch["task"]
        loaded: dict[str, Any] = {"task": (self.preprocessing.normalize(images), labels)}
        if "replay" in batch:
            loaded["replay"] = batch["replay"].received(self.replay_images)
        assert self.trainer is not None
        # Lightning did so before the transfer, and left integers as they were
        return self.trainer.precision_plugin.convert_input(loaded)

    def loader_of(self, images: ImageSet, steps: int, *name: int | str) -> DataLoader[Any]:
        """This rank's share of ``steps`` batches of augmented images, in a stream beside those of the steps.

        They are not normalised yet: ``preprocessing.normalize`` does so, on the device.
        """
        key = (self.seed, *name)
        samples = SeededSamples(images, self.preprocessing.train_geometry, key)
        split = Split.of_ranks(self.trainer)
        batches = StepBatches(samples, self.batch_size, steps, key, self.shuffle, split)
        return DataLoader(samples, batch_sampler=batches, num_workers=self.num_workers)

    def place(self, batch_idx: int) -> tuple[int, int]:
        """Where this rank's batch lies in that of its optimiser step: its first image, and images of the whole."""
        split = self._split()
        number = batch_idx % split.accumulate * split.world_size + split.rank
        return number * self.batch_size // (split.world_size * split.accumulate), self.batch_size

    def test_dataloader(self) -> DataLoader[int]:
        """One batch for each task: its number. Every rank visits all tasks and evaluates its shard of each."""
        return DataLoader(range(self.num_tasks), batch_size=None)  # type: ignore[arg-type]

    def test_shard(self, task: int, limit: int | None = None) -> TestShard:
        """This rank's part of the test set of ``task``, see ``EvaluationShards.shard``; all ranks have to call this."""
        return self._shards.shard(self.tasks[task], limit, self.report)

    def validation_shard(self, task: int, limit: int | None = None) -> TestShard:
        """This rank's part of the images held out of ``task``, which has some; otherwise as ``test_shard``."""
        held = self.training_images.to_validate(task)
        assert held is not None
        return self._shards.validation_shard(self.tasks[task], held, limit)

    def _split(self) -> Split:
        trainer = self.trainer
        assert trainer is not None
        return Split(trainer.global_rank, trainer.world_size, trainer.accumulate_grad_batches)

    def _check_division(self) -> None:
        replayed = {} if self.replay is None else {"`data.replay.batch_size`": self.replay.batch_size}
        check_division({"`data.batch_size`": self.batch_size, **replayed}, self._split())

    def _check_given_away(self) -> None:
        """Raise an ``InputError`` if an object of this sequence serves another one by now."""
        given_away = [f"task '{t.name}'" for t in self.tasks if t.origin._sequence_root not in (None, self._root)]
        if self.replay is not None and self.replay.sequence is not self:
            given_away.append("replay")
        if given_away:
            raise InputError(
                f"The {given_away[0]} of this TaskSequence was given to another one: make one for each sequence."
            )


def _give_root(task: Task, root: Path) -> None:
    """Let a task that has no root of its own read below that of its sequence."""
    if task.origin._sequence_root not in (None, root):  # of another sequence, and so may be the images
        make_anew(task)
    if task.root is None:
        task.root = task.origin._sequence_root = root
