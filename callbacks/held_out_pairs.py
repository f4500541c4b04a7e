"""Overfitting of distillation: its loss on replayed pairs, and on pairs that no step replays."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from callbacks.encoding import evaluation_mode
from callbacks.method import Method
from callbacks.run_time import RunTime
from callbacks.task_callback import TaskCallback, is_trial, method_of, sequence_of
from datamodules.replay.synthetic import SyntheticReplay
from datamodules.shard import ReplayImages, replay_images
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import CLIP
from gift_lightning.errors import InputError
from gift_lightning.numerics.losses import Pairs
from gift_lightning.records.logged import HELD_OUT, REPLAYED

_TERMS = ("image_distillation", "text_distillation")


@runtime_checkable
class DistilsPairs(Protocol):
    """A method that distils a teacher on image-text pairs, as GIFT does."""

    teacher: FrozenCopy[CLIP]
    distillation_weight: float

    def pair_loss(self, teacher: Pairs, student: Pairs, text_index: Tensor) -> dict[str, Tensor]:
        """Named losses of ``B`` pairs from their features ``[B, D]`` and the texts' indices ``[B]``."""


@dataclass(frozen=True)
class _Set:
    """Pairs on which the loss is measured.

    Attributes:
        images, rows: the images of the pairs are ``rows`` ``[n]`` of ``images``.
        texts, text_index: their texts are ``texts[text_index]``, ``text_index`` ``[n]``.
    """

    images: ReplayImages
    rows: Tensor
    texts: list[str]
    text_index: Tensor


class _Measured(NamedTuple):
    """Pairs, and the features that the teacher gives them."""

    pairs: _Set
    teacher: Pairs


class HeldOutPairs(TaskCallback):
    """Logs how far the model is from its teacher on replayed pairs, and on held-out pairs that no step replays.

    Both are the method's distillation loss, less the loss of the teacher itself (its entropy): 0 where a task begins,
    if the teacher is the model before the task. It is the mean over batches as in training, of as many pairs of either
    kind, without gradient and as in testing, after every ``every`` steps of a task and after its last one. If it rises
    on held-out pairs while it falls on replayed ones, distillation overfits the few pairs that it has.

    Nothing of the training changes. The held-out pairs are drawn before a task from the prompts of its replay set, with
    other seeds, see ``SyntheticReplay.held_out``; ``generate`` does not draw them ahead. The first rank measures, and
    the others wait for it at the next step.

    Args:
        pairs: held out for each task, and about as many of the replayed ones: whole batches of
            ``data.replay.batch_size``, if they are more than one, and no more than the steps of the task draw.
        every: optimiser steps from one measurement to the next.

    Raises:
        InputError: an argument is below 1, and when the run starts: the method distils on no drawn pairs.
    """

    INDIFFERENT = frozenset({"*"})
    """See ``gift_lightning.runs.same_run``: the run is the same without it."""

    def __init__(self, pairs: int = 128, every: int = 20) -> None:
        for name, value in {"pairs": pairs, "every": every}.items():
            if value < 1:
                raise InputError(f"`{name}` of HeldOutPairs is {value}: give at least 1.")
        self.pairs, self.every = pairs, every
        self._measured: dict[str, _Measured] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._measured = {}
        method, replay = method_of(trainer), sequence_of(trainer).replay
        is_drawn = isinstance(method, DistilsPairs) and isinstance(replay, SyntheticReplay)
        if stage != "fit" or (is_drawn and method.distillation_weight):
            return
        raise InputError(
            f"HeldOutPairs measures a distillation on pairs that are drawn, and {type(method).__name__} has none: take"
            " it out of `trainer.callbacks`, or choose GIFT with datamodules.SyntheticReplay and a"
            " `model.distillation_weight`."
        )

    @torch.no_grad()
    def prepare_task(self, trainer: Trainer, method: Method, task: int) -> None:
        """Draw the held-out pairs of the task, and compute the teacher's features of both kinds of pairs."""
        if is_trial(trainer):
            return
        with _beside_training(trainer):
            self._prepare(trainer, method, task)

    def _prepare(self, trainer: Trainer, method: Method, task: int) -> None:
        sequence = sequence_of(trainer)
        replay, model = sequence.replay, sequence.preprocessing
        assert isinstance(replay, SyntheticReplay)
        texts, pairs = replay.held_out(task, self.pairs)
        if not trainer.is_global_zero:
            return
        device = trainer.strategy.root_device
        held_out = replay_images(pairs, model.test_geometry, model.normalize, sequence.num_workers, device)
        replayed = torch.tensor(sorted(sequence.replayed(task)))  # the pairs that the steps of the task draw
        count = min(self.pairs, len(replayed))
        count -= count % replay.batch_size if count > replay.batch_size else 0
        self._measured = {
            REPLAYED: _with_teacher(trainer, method, sequence.replay_images, replayed[:count], replay.texts),
            HELD_OUT: _with_teacher(trainer, method, held_out, torch.arange(count), texts),
        }

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._measured or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        method, sequence = method_of(trainer), sequence_of(trainer)
        step = trainer.global_step - sequence.first_step(method.task)
        if step % self.every == 0 or step == sequence.steps(method.task):
            with _beside_training(trainer):
                losses = {name: _loss(trainer, method, measured) for name, measured in self._measured.items()}
            for logger in trainer.loggers:
                logger.log_metrics(losses, trainer.global_step - 1)  # Lightning counts the steps of losses from 0


@contextlib.contextmanager
def _beside_training(trainer: Trainer) -> Iterator[None]:
    """Within it, the time is none of training: the run measures itself."""
    with contextlib.ExitStack() as stack:
        for clock in (callback for callback in trainer.callbacks if isinstance(callback, RunTime)):  # type: ignore[attr-defined]
            stack.enter_context(clock.outside("train"))
            stack.enter_context(clock.outside("steps"))
        yield


def _with_teacher(trainer: Trainer, method: Method, images: ReplayImages, rows: Tensor, texts: list[str]) -> _Measured:
    """The images ``rows`` of a set with their texts, and the teacher's features of both."""
    assert isinstance(method, DistilsPairs)
    text_index = torch.cat([labels for _, labels in images.batches(rows, method.eval_batch_size)]).cpu()
    pairs = _Set(images, rows, texts, text_index)
    return _Measured(pairs, _features(trainer, method.teacher.module, pairs, method.eval_batch_size))


def _features(trainer: Trainer, clip: CLIP, pairs: _Set, batch_size: int) -> Pairs:
    """Unit features ``[n, D]`` of the images of pairs, and of their texts."""
    device, dtype = trainer.strategy.root_device, clip.logit_scale.dtype
    distinct, row = pairs.text_index.unique(return_inverse=True)
    with evaluation_mode(clip), trainer.precision_plugin.val_step_context():
        batches = pairs.images.batches(pairs.rows, batch_size)
        image = torch.cat([clip.encode_image(images.to(device, dtype)) for images, _ in batches])
        text = clip.encode_texts([pairs.texts[index] for index in distinct.tolist()])
    return Pairs(image, text[row.to(text.device)])


@torch.no_grad()
def _loss(trainer: Trainer, method: Method, measured: _Measured) -> float:
    """The distillation loss of the model on pairs, less that of the teacher."""
    assert isinstance(method, DistilsPairs)
    replay = sequence_of(trainer).replay
    assert replay is not None
    pairs, teacher = measured
    student = _features(trainer, method.clip, pairs, method.eval_batch_size)
    excess = []
    for rows in torch.arange(len(pairs.rows)).split(replay.batch_size):
        theirs, ours = (Pairs(features.image[rows], features.text[rows]) for features in (teacher, student))
        index = pairs.text_index[rows].to(ours.image.device)
        excess.append(_distilled(method, theirs, ours, index) - _distilled(method, theirs, theirs, index))
    return float(torch.stack(excess).mean())


def _distilled(method: DistilsPairs, teacher: Pairs, student: Pairs, text_index: Tensor) -> Tensor:
    losses = method.pair_loss(teacher, student, text_index)
    return torch.stack([losses[name] for name in _TERMS]).sum()
