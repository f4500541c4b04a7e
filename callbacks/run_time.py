"""Where the time of a run goes."""

import contextlib
import functools
import time
from collections.abc import Iterator
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from callbacks.accuracy_matrix import AccuracyMatrix
from callbacks.method import Method
from callbacks.task_boundary import TaskBoundary
from callbacks.task_callback import TaskCallback, callback_of, is_trial, sequence_of
from datamodules.stream import StepLoader
from gift_lightning.records.environment import machine


class RunTime(TaskCallback):
    """The seconds of a run by what they were spent on, and what bounds its steps; on the clock of this process.

    Each moment of a run, in all its parts from ``on_fit_start`` on, counts once in ``seconds``. Time between a stop and
    the resume is not counted, nor is what came after the last checkpoint: steps, which are made again, and the drawing
    of images, which stay. Work after the report of a task, such as its checkpoint, counts for the next task; after the
    last task, for that one.

    No clock waits for a GPU. There, a step whose kernels are queued is over for the host, which waits for them later,
    mostly at the next logged step.

    Attributes:
        seconds: a number for each task, by phase: ``train`` from its beginning to its evaluation, ``evaluate``,
            ``replay``, the making or reading of its replay set, and ``other``, the reports, the checkpoints outside of
            ``train`` and all the rest. ``zero_shot`` has one number, all before the first task.
        shares: percent of each task's time between two reports, by what the process did: optimiser ``steps``, waiting
            for ``data``, ``checkpoints``, ``evaluation``, ``replay`` as above, and the ``rest``. ``None`` for a task
            that an earlier version began.
        images_per_second: images of each task in its steps, waiting included; ``None`` without steps, in a trial, and
            for a task that an earlier version began.
        machines: on which the parts of the run were made.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {
            phase: [] for phase in ("zero_shot", "replay", "train", "evaluate", "other")
        }
        parts = ("steps", "data", "checkpoints", "evaluation", "replay", "rest")
        self.shares: dict[str, list[float | None]] = {part: [] for part in parts}
        self.images_per_second: list[float | None] = []
        self.machines: list[str] = []
        self._sums: dict[str, float] = {}  # since the last report
        self._since: dict[str, float] = {}  # of those that go on
        self._loaders: list[StepLoader] = []
        self._is_continued = False  # a task that an earlier version began
        self._in_task = False

    # --- clocks -------------------------------------------------------------------------------------------------------

    def _start(self, *names: str) -> None:
        self._since |= dict.fromkeys(names, time.perf_counter())

    def _add(self, name: str, seconds: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + seconds

    def _stop(self, name: str) -> float:
        """End a clock that may go, and return its seconds since the last report."""
        if name in self._since:
            self._add(name, time.perf_counter() - self._since.pop(name))
        return self._sums.get(name, 0.0)

    def _take_waiting(self) -> None:
        for loader in self._loaders:
            self._add("data", loader.waited)
            loader.waited = 0.0

    @contextlib.contextmanager
    def outside(self, clock: str) -> Iterator[None]:
        """Within it, a clock that goes stands still: ``train``, or ``steps``."""
        began = time.perf_counter()
        try:
            yield
        finally:
            if clock in self._since:
                self._since[clock] += time.perf_counter() - began

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        self._take_waiting()
        now = time.perf_counter()
        sums = dict(self._sums)
        for name, since in self._since.items():
            sums[name] = sums.get(name, 0.0) + now - since
        lists = {name: getattr(self, name) for name in ("seconds", "shares", "images_per_second", "machines")}
        return {**lists, "sums": sums, "in_task": self._in_task}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in ("seconds", "shares", "images_per_second", "machines"):
            setattr(self, name, state_dict[name])
        self._sums, self._in_task = state_dict["sums"], state_dict["in_task"]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take over what an earlier version measured, which had no callback for it."""
        earlier = checkpoint["callbacks"].get("RunRecord", {})
        if self.state_key not in checkpoint["callbacks"] and "seconds" in earlier:
            tasks = len(earlier["seconds"]["train"])
            self.seconds = {**earlier["seconds"], "other": [0.0] * tasks}
            self.shares = {part: [None] * tasks for part in self.shares}
            self.images_per_second = [None] * tasks
            state = checkpoint["callbacks"].get("TaskBoundary", {})
            self._in_task = state.get("started", -1) > state.get("finished", -1)
            running = earlier["task_seconds"]
            self._sums = {"all": running, **({"train": running} if self._in_task else {})}
            self._is_continued = True

    # --- Lightning's hooks --------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = {}
        self._start("all", *(["train"] if self._in_task else []))
        here = machine(trainer.strategy.root_device, trainer.world_size)
        self.machines = [*self.machines, *([here] if here not in self.machines else [])]
        save = getattr(trainer.save_checkpoint, "__wrapped__", trainer.save_checkpoint)  # of an earlier fit

        @functools.wraps(save)
        def timed_save(*arguments: Any, **settings: Any) -> None:
            began = time.perf_counter()
            with self.outside("steps"):
                save(*arguments, **settings)
            self._add("checkpoints", time.perf_counter() - began)

        trainer.save_checkpoint = timed_save  # type: ignore[method-assign]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._enter_loop(trainer)  # of a task that goes on

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._enter_loop(trainer)

    def _enter_loop(self, trainer: Trainer) -> None:
        self._loaders = list((trainer.train_dataloader or {}).values())
        self._start("steps")

    # --- the events ---------------------------------------------------------------------------------------------------

    def on_sequence_start(self, trainer: Trainer, method: Method) -> None:
        self.seconds["zero_shot"] = [self._stop("all")]
        self._next()

    def on_task_start(self, trainer: Trainer, method: Method, task: int) -> None:
        sequence = sequence_of(trainer)
        if sequence.replay is not None:
            seconds = callback_of(trainer, TaskBoundary).preparation_seconds
            self.seconds["replay"].append(seconds if sequence.replays_in(task) else 0.0)
        self._in_task = True
        self._start("train")

    def on_task_trained(self, trainer: Trainer, method: Method, task: int) -> None:
        self._stop("steps")
        self._take_waiting()
        writing = callback_of(trainer, TaskBoundary).writing_seconds  # at the end of the steps
        self._add("steps", -writing)
        self._add("checkpoints", writing)

    def on_task_report(self, trainer: Trainer, method: Method, task: int) -> None:
        sequence, evaluation = sequence_of(trainer), callback_of(trainer, AccuracyMatrix).seconds
        replay = self.seconds["replay"][task] if len(self.seconds["replay"]) > task else 0.0
        # the work of methods at a task's end, before the evaluation, belongs to the training
        train = self._stop("train") - evaluation if self._in_task else 0.0
        whole, loop = self._stop("all"), self._stop("steps")
        for phase, value in {"train": train, "evaluate": evaluation}.items():
            self.seconds[phase].append(value)
        self.seconds["other"].append(whole - replay - train - evaluation)
        data, checkpoints = self._sums.get("data", 0.0), self._sums.get("checkpoints", 0.0)
        parts = {"steps": max(0.0, loop - data), "data": data, "checkpoints": checkpoints}
        parts |= {"evaluation": evaluation, "replay": replay}
        parts["rest"] = max(0.0, whole - sum(parts.values()))
        for part, seconds in parts.items():
            self.shares[part].append(None if self._is_continued else round(100 * seconds / whole, 1))
        is_known = loop > 0 and not self._is_continued and not is_trial(trainer)
        self.images_per_second.append(round(sequence.batch_size * sequence.steps(task) / loop, 2) if is_known else None)
        self._in_task = self._is_continued = False
        self._next()

    def on_sequence_end(self, trainer: Trainer, method: Method) -> None:
        self.seconds["other"][-1] += self._stop("all")
        self._next()

    def _next(self) -> None:
        self._sums, self._since = {}, {}
        self._start("all")
