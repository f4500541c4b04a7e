"""The base of all methods: the task loss, the optimiser, the events of a task, evaluation."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from callbacks.encoding import encode_shared, encode_train_set
from callbacks.task_boundary import TaskBoundary
from callbacks.task_callback import callback_of, logs_step, sequence_of
from datamodules.base import Candidates
from datamodules.prediction import NamedClasses, decoded_samples
from datamodules.sequence import TaskSequence
from datamodules.shard import TestShard
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import TEST_LOGIT_SCALE, cosine
from gift_lightning.clip.source import CLIPSource
from gift_lightning.clip.weights_source import CLIPWeights
from gift_lightning.errors import InputError
from gift_lightning.methods.saved import SavedMethod
from gift_lightning.numerics.fused_adamw import FusedAdamW
from gift_lightning.numerics.schedule import checked_rates, warmup_cosine, warmup_notes
from gift_lightning.sources import Source


class ContinualCLIP(SavedMethod):
    """CLIP fine-tuned on one task after the other.

    loss = CE(exp(s) * cos(image, class prompts), label), label-smoothed, over ``classes``

    A method adds its own: more losses (``training_step``), a gradient that needs no graph
    (``complete_gradient``), work at a task's boundaries (``prepare_task``, ``on_task_start``, ``on_task_end``),
    callbacks (``configure_callbacks``), or another way to predict (``evaluate``).

    Args:
        clip: the pre-trained model.
        lr: learning rate after warm-up; one for all tasks, or one for each by name.
        classes: those of the current task, or also those of the tasks before it ("seen").
        label_smoothing: of the task loss.
        warmup_steps: optimiser steps of linear warm-up at the start of each task; half a cosine to 0 follows.
        weight_decay: of AdamW.
        betas: of AdamW.
        eval_batch_size: test images in one forward pass.
        compile: compile both towers for training, once for all tasks. It takes minutes and a C++ compiler.
        activation_checkpointing: store a block's input alone for the backward pass, and compute the block again there.
    """

    INDIFFERENT = frozenset({"eval_batch_size", "compile", "activation_checkpointing"})
    """Arguments that change no number but by rounding, see ``gift_lightning.runs.same_run``; others are decisive."""

    replays = False
    """Whether the method has a use for images beside those of the tasks, ``data.replay``."""

    keeps_replay_gradient = False
    """Whether a second gradient of all trained weights is in memory beside the optimiser's."""

    shares_prompts = True
    """Whether ranks divide the class prompts of a step. Not if features of a prompt depend on others in the batch."""

    optimizer_type: type[AdamW] = FusedAdamW
    """Of the optimiser that each task begins anew."""

    not_in_knowledge: ClassVar[tuple[str, ...]] = ("losses", "_class_tokens")

    def __init__(
        self,
        clip: CLIPSource,
        lr: float | dict[str, float] = 1e-5,
        classes: Literal["task", "seen"] = "task",
        label_smoothing: float = 0.2,
        warmup_steps: int = 100,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eval_batch_size: int = 256,
        compile: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        for name, value in {"warmup_steps": warmup_steps, "weight_decay": weight_decay}.items():
            if value < 0:
                raise InputError(f"`model.{name}` is {value}: it cannot be negative.")
        if not 0 <= label_smoothing <= 1:
            raise InputError(f"`model.label_smoothing` is {label_smoothing}: give a number from 0 to 1.")
        if eval_batch_size < 1:
            raise InputError(f"`model.eval_batch_size` is {eval_batch_size}: give at least 1.")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise InputError(f"`model.betas` is {list(betas)}: give two numbers from 0 to less than 1.")
        if isinstance(clip, str):
            raise InputError(f"clip is the text '{clip}': give CLIPSource('{clip}').")
        self.clip = clip.load()
        self.clip.compiles_training = compile
        if activation_checkpointing:
            self.clip.checkpoint_activations()
        self.lr, self.warmup_steps, self.weight_decay, self.betas = lr, warmup_steps, weight_decay, betas
        self.classes, self.label_smoothing, self.eval_batch_size = classes, label_smoothing, eval_batch_size
        self.task = 0
        self._step_lr = 0.0
        self.losses: dict[str, Tensor] = {}
        self.is_logged = False
        self._class_tokens: Tensor | None = None

    @classmethod
    def sources(cls, arguments: Mapping[str, Any]) -> list[Source]:
        """What must be on this machine before a method of this class can be made: the CLIP's weights first.

        Args:
            arguments: those of the constructor as a config has them, the settings of ``clip`` as a mapping too.
        """
        return [CLIPWeights(CLIPSource(**arguments["clip"]))]

    # --- the loss -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The loss of a batch ``{"task": (images [n, 3, H, W], labels [n])}``, a scalar."""
        return self.record("task", self.task_loss(*batch["task"]))

    def task_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Label-smoothed cross-entropy of ``[n, 3, H, W]`` images over class prompts, the current task's first."""
        assert self._class_tokens is not None
        features, classes = self.encode(images, self._class_tokens)
        logits = cosine(self.clip.logit_scale * features, classes)
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def encode(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Unit features ``[n, D]`` and ``[C, D]`` of images ``[n, 3, H, W]`` and of prompts ``[C, L]``, in training."""
        encode = partial(encode_shared, self.encode_prompts) if self.shares_prompts else self.encode_prompts
        return self.clip.encode_image(images), encode(tokens)

    def encode_prompts(self, tokens: Tensor) -> Tensor:
        """Unit features ``[n, D]`` of class prompts from their token ids ``[n, L]``, in training and in testing.

        A method that learns prompts overrides it, for instance with vectors ``[m, W]`` before the words, as in CoOp::

            return self.clip.encode_embeddings(*self.clip.insert_vectors(self.context, tokens))
        """
        return self.clip.encode_text(tokens)

    def record(self, name: str, value: Tensor) -> Tensor:
        """Log a term of this step's loss as ``loss/<name>``, a scalar weighted as it enters the sum; returns it."""
        self.losses[name] = value.detach()
        return value

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._step_lr = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        step, last = self.trainer.global_step + 1, self.sequence.first_step(self.task + 1)
        ends = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0
        self.is_logged, self.losses = ends and (step == last or logs_step(self.trainer, step)), {}

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the rate of this step and the terms of its loss, averaged over ranks; stop if they are not finite."""
        if not self.is_logged:
            return
        means = self.trainer.strategy.reduce(torch.stack(list(self.losses.values())), reduce_op="mean")
        if not means.isfinite().all():
            broken = next(name for name, mean in zip(self.losses, means, strict=True) if not mean.isfinite())
            raise InputError(
                f"The {broken.replace('_', ' ')} loss is not finite at step {self.trainer.global_step} (task"
                f" '{self.sequence.names[self.task]}'): lower `model.lr`, or look for broken images."
            )
        self.log_dict({f"loss/{name}": mean for name, mean in zip(self.losses, means, strict=True)})
        self.log("lr", self._step_lr)

    def build(self, tasks: int, has_reference: bool, seed: int = 0) -> None:
        """Make what grows with the number of tasks; called in ``setup``, and where a run is only estimated.

        Args:
            tasks: how many there are to learn.
            has_reference: whether there are images of ``data.replay``.
            seed: of the run.
        """

    # --- events -------------------------------------------------------------------------------------------------------

    def prepare_task(self, task: int) -> None:
        earlier = self.sequence.tasks[:task] if self.classes == "seen" else []
        named = [self.sequence.tasks[task], *earlier]
        self._class_tokens = self.clip.tokenize([prompt for each in named for prompt in each.training_prompts()])

    def train_features(self, task: int) -> tuple[Tensor, Tensor]:
        """Unit features ``[N, D]`` and labels ``[N]`` of the training images of a task, by the CLIP as in testing.

        For methods that learn analytically. All ranks have to call this; all get the same.
        """
        return encode_train_set(self.trainer, self, self.sequence.train_set(task))

    # --- prediction ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(
        self,
        images: Sequence[Image.Image],
        class_names: Sequence[str],
        templates: Sequence[str] = ("a photo of a {}.",),
    ) -> Tensor:
        """Probabilities ``[n, C]`` of any classes for PIL images, as in testing: softmax of 100 x cosine.

        A JPEG that libjpeg reports damaged is used all the same, with a warning. It is noticed only in images as
        ``Image.open`` gives them for a path: not in copies of them, nor in those opened from memory.

        Args:
            images: a list of them.
            class_names: a list, or an array, of what may be on them.
            templates: prompts with one ``{}`` for the class name; their features are averaged.

        Raises:
            InputError: no list of images or of classes, a template without ``{}``, or an image that does not decode or
                is not taken (see ``upright_rgb``).
        """
        samples, classes = decoded_samples(images), NamedClasses(class_names, templates)
        shard = TestShard(samples, self.clip.test_geometry, self.clip.normalize, device=self.device)
        return self.evaluate(classes, shard).softmax(1)

    def evaluate(self, task: Candidates, shard: TestShard) -> Tensor:
        classifier = self.classifier(task)
        if not len(shard):
            return classifier.new_empty(0, len(classifier))
        return TEST_LOGIT_SCALE * cosine(self.encode_shard(shard), classifier)

    def classifier(self, task: Candidates) -> Tensor:
        """Class embeddings ``[C, D]`` of a task for testing, by ``encode_prompts``."""
        return self.clip.classifier(task.class_prompts(), self.encode_prompts)

    def encode_shard(self, shard: TestShard, rows: Tensor | None = None) -> Tensor:
        """Unit features ``[n, D]`` of the images of a shard, ``eval_batch_size`` of them in one forward pass.

        Args:
            shard: with at least one image.
            rows: numbers ``[n]`` of the images, at least one; ``None`` for all.
        """
        rows, dtype = torch.arange(len(shard)) if rows is None else rows.cpu(), self.clip.logit_scale.dtype
        return torch.cat([self.clip.encode_image(shard[batch].to(dtype)) for batch in rows.split(self.eval_batch_size)])

    def test_step(self, task: int) -> None:
        """The accuracy matrix evaluates; Lightning only hands it the tasks."""

    # --- optimisation -------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """A new AdamW and schedule for the current task; called at the start of every task. None without steps."""
        if self.learning != "steps":
            return None
        task, steps = self.task, self.sequence.steps(self.task)
        lr = self.lr[self.sequence.names[task]] if isinstance(self.lr, dict) else self.lr
        optimizer = self.optimizer_type(
            self.trained_parameters(), lr=lr, betas=self.betas, weight_decay=self.weight_decay
        )
        schedule = LambdaLR(optimizer, lambda step: warmup_cosine(step, self.warmup_steps, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def trained_parameters(self) -> list[nn.Parameter]:
        has_steps = self.learning == "steps"
        return [parameter for parameter in self.parameters() if parameter.requires_grad and has_steps]

    def learned_parameters(self) -> Sequence[Tensor]:
        return self.trained_parameters()

    def stored_copies(self) -> list[FrozenCopy[Any]]:
        return []

    def setup(self, stage: str) -> None:
        for task in self.sequence.tasks:
            too_long = self.clip.first_too_long([prompt for of_class in task.class_prompts() for prompt in of_class])
            if too_long is not None:
                raise InputError(
                    f"Task '{task.name}': the prompt '{too_long}' is longer than the text that the CLIP reads:"
                    " shorten the class name or the template."
                )
        if stage != "fit":
            return
        callback_of(self.trainer, TaskBoundary)  # an InputError without it: no task would begin
        if self.learning != "steps":  # DDP takes no module without a parameter to train; nothing will train this one
            next(self.clip.parameters()).requires_grad_(True)
        self.lr = checked_rates(self.lr, self.sequence.names)
        if self.sequence.replay is not None and not self.replays:
            raise InputError(f"{type(self).__name__} does not replay: remove `data.replay`.")
        self.build(self.sequence.num_tasks, self.sequence.replay is not None, self.sequence.seed)

    def notes(self) -> list[str]:
        return [*self.clip.origin.notes, *self.notes_on_settings(self.sequence.steps_by_name())]

    def notes_on_settings(self, steps: Mapping[str, int]) -> list[str]:
        """Those on the settings alone: how far the learning rate rises in tasks that end before the warm-up does.

        Args:
            steps: optimiser steps of the tasks, by name.
        """
        return warmup_notes(steps, self.warmup_steps) if self.learning == "steps" else []

    @property
    def sequence(self) -> TaskSequence:
        """The tasks of the run."""
        return sequence_of(self.trainer)
