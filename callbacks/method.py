"""The attributes and methods that callbacks rely on in every method."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from datamodules.base import Candidates
from datamodules.events import TaskEvents
from datamodules.shard import TestShard
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import CLIP
from gift_lightning.errors import InputError

Learning: TypeAlias = Literal["steps", "analytic", "none"]
"""How a method learns, see ``Method.learning``."""


class Method(LightningModule, TaskEvents, ABC):
    """A method as callbacks see it; methods derive from ``ContinualCLIP``.

    A callback that belongs to some methods alone takes the method in its constructor, typed by a Protocol in the
    callback's file that names what it needs beyond this. The method holds the state, the callback is its only writer.

    Attributes:
        learning: how the method learns: in ``"steps"`` of an optimiser; ``"analytic"``, by itself at a task's end, in
            ``on_task_end``; or not at all, ``"none"``. Without steps there is no training loop; without learning each
            row of the accuracy matrix is the zero-shot row.
        clip: the model that learns.
        task: number of the current task.
        losses: terms of the latest step's loss, by name, each weighted as it enters the sum; without those that only
            steps with ``is_logged`` compute, as they have no graph.
        is_logged: whether the current batch ends a step whose figures are logged, or the last step of a task.
        eval_batch_size: images in one forward pass without gradients.
    """

    learning: ClassVar[Learning] = "steps"
    clip: CLIP
    task: int
    losses: dict[str, Tensor]
    is_logged: bool
    eval_batch_size: int

    not_in_knowledge: ClassVar[tuple[str, ...]] = ()
    """Parameters, buffers, submodules and attributes with tensors that change and that ``knowledge`` does not give by
    their names: only training needs them, or their content is in ``knowledge`` in another form. A derived class adds
    its own."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "learns" in vars(cls):
            raise InputError(f"{cls.__name__}.learns is out of use: say how it learns with {cls.__name__}.learning.")
        if cls.learning not in get_args(Learning):
            ways = ", ".join(get_args(Learning))
            raise InputError(f"{cls.__name__}.learning is '{cls.learning}': give one of {ways}.")

    @abstractmethod
    def evaluate(self, task: Candidates, shard: TestShard) -> Tensor:
        """Logits ``[len(shard), C]``, 100 x cosine, of a shard of the task's test set over the task's classes.

        Runs without gradients and makes no collective calls, because shards differ in size from rank to rank.
        """

    @abstractmethod
    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimiser may change in the current task."""

    @abstractmethod
    def learned_parameters(self) -> Sequence[Tensor]:
        """All parameters that may change in the current task, by the optimiser or at its end, or rows of them."""

    @abstractmethod
    def stored_copies(self) -> list[FrozenCopy[Any]]:
        """Copies of weights that are stored between tasks; a copy made anew for each task is none."""

    @abstractmethod
    def notes(self) -> list[str]:
        """Sentences on what a user should know of the model and its settings, after ``setup``; see ``Task.notes``."""

    def complete_gradient(self, optimizer: Optimizer) -> None:
        """Add to the gradients of the task loss what a method computes without a graph: a replay gradient, a penalty.

        A step goes through these hooks in this order, on each rank and whatever the precision:

        1. ``training_step`` and ``backward``, once for each accumulated batch: ``.grad`` is the gradient of the task
           loss, averaged over ranks and batches.
        2. ``on_after_backward`` of callbacks: the gradients of the task and of the replay loss, still apart. With
           ``16-mixed`` that of the task is multiplied by the scale of the loss, which is then divided out.
        3. ``complete_gradient``, which ``TaskBoundary`` calls: ``.grad`` is the gradient of the whole loss, equal on
           all ranks.
        4. ``on_before_optimizer_step`` of the other callbacks, then of the method: monitors see the whole gradient.
           (A hook on a tensor, as of ``wandb.watch``, runs in the backward pass and sees this rank's part of 1.)
        5. ``configure_gradient_clipping``: ``gradient_clip_val`` clips the whole gradient.
        6. the optimiser's step.

        Args:
            optimizer: of the task.
        """

    def knowledge(self) -> dict[str, Tensor]:
        """The tensors that predictions need beside the weights of the CLIP, by name; none for most methods.

        A method that has some leaves it in the run's folder instead of the CLIP's weights after each task. All that
        changed since the first task began has to be in it, see ``not_in_knowledge``.
        """
        return {}

    @property
    def has_knowledge(self) -> bool:
        """Whether the method defines a ``knowledge`` of its own."""
        return type(self).knowledge is not Method.knowledge
