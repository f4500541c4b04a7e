"""A method on random weights, images and classes, ready for a step: what the benchmarks of steps compute on."""

from dataclasses import dataclass
from typing import Any

import open_clip
import torch
from lightning import Trainer
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor
from torch.optim import Optimizer

from benchmarks.textbook import Inputs
from callbacks import TaskBoundary
from datamodules import TaskSequence
from datamodules.base import Replay, Task
from datamodules.shard import TestShard
from gift_lightning.clip.model import CLIP
from gift_lightning.clip.source import CLIPSource
from gift_lightning.methods import GIFT, ZSCL, ContinualCLIP, Finetune, MoEAdapter
from gift_lightning.methods.parts.distillation import DistillationCLIP
from gift_lightning.numerics.losses import Pairs
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS

CLASS_NAMES = open_clip.IMAGENET_CLASSNAMES


@dataclass
class RandomCLIP(CLIPSource):
    """An open_clip model with random weights, the same for each ``load``."""

    name: str = "ViT-B-16-quickgelu"

    def load(self) -> CLIP:
        torch.manual_seed(0)
        model = open_clip.create_model(self.name)
        config = PreprocessCfg(size=model.visual.image_size)
        transforms = [image_transform_v2(config, is_train) for is_train in (True, False)]
        return CLIP(model, *transforms, open_clip.get_tokenizer(self.name))


class RandomTask(Task):
    """A task of random images, uint8 ``[3, size, size]`` in memory, with class names of ImageNet."""

    def __init__(self, classes: int, images: int, size: int) -> None:
        super().__init__()
        self.name, self.templates = "Random", ["a photo of a {}."]
        self.class_names = [f"{CLASS_NAMES[index % 1000]} {index // 1000 or ''}".strip() for index in range(classes)]
        generator = torch.Generator().manual_seed(1)
        pixels = torch.randint(256, (images, 3, size, size), dtype=torch.uint8, generator=generator)
        labels = torch.randint(classes, (images,), generator=generator).tolist()
        self.train_set = self.test_set = list(zip(pixels, labels, strict=True))  # type: ignore[assignment]

    @property
    def fingerprint(self) -> str:
        return "random"


class RandomReplay(Replay):
    """Random images with texts about classes of ImageNet.

    Args:
        images: how many.
        texts: how many; image ``i`` has text ``i``, begun again after the last.
        paired: see ``Replay``.
    """

    def __init__(self, images: int, texts: int, size: int, batch_size: int, paired: bool) -> None:
        super().__init__(batch_size)
        self.paired, of_images = paired, RandomTask(1, images, size).train_set
        self.texts = [f"a photo of a {CLASS_NAMES[i % 1000]}{' again' * (i // 1000)}." for i in range(texts)]
        self.pairs = [(image, index % texts) for index, (image, _) in enumerate(of_images)]  # type: ignore[assignment]

    def prepare_task(self, task: int) -> None:
        """All is there."""


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        method: a name in ``textbook.STEPS``.
        batch: images in a step, and as many replayed ones.
        classes: of the task.
        texts: of the replay set.
        model: of open_clip.
        device: cpu or cuda.
        precision: of Lightning's trainer.
        settings: more arguments of the method.
    """

    method: str
    batch: int = 4
    classes: int = 100
    texts: int = 1000
    model: str = "ViT-B-16-quickgelu"
    device: str = "cpu"
    precision: Any = "32-true"
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The case in a table."""
        texts = f", {self.texts} sentences" if self.method == "zscl" else ""
        return f"{self.method}, {self.classes} classes{texts}"


METHODS: dict[str, tuple[type[ContinualCLIP], dict[str, Any]]] = {
    "finetune": (Finetune, {}),
    "gift": (GIFT, {}),
    "zscl": (ZSCL, {"average_every": None}),
    "moe_adapter": (MoEAdapter, {}),
}
"""Class and arguments of a method, by its name."""


class Workload:
    """A method before the first step of a task, attached to a trainer whose loop is not used.

    Args:
        case: what to measure.
        teaches: whether the teacher encodes the replay set; without, its features are random.

    Attributes:
        method: in training mode, on its device.
        batch: as ``training_step`` gets it.
    """

    def __init__(self, case: Case, teaches: bool = True) -> None:
        self.case = case
        kind, arguments = METHODS[case.method]
        self.method = kind(clip=RandomCLIP(case.model), **{"lr": 1e-5, "warmup_steps": 0, **arguments, **dict(case.settings)})
        size = self.method.clip.model.visual.image_size[0]
        self.method.clip.train_geometry = self.method.clip.test_geometry = torch.as_tensor
        replays = case.method in ("gift", "zscl")
        replay = RandomReplay(2 * case.batch, case.texts, size, case.batch, case.method == "gift") if replays else None
        task = RandomTask(case.classes, case.batch, size)
        self.sequence = TaskSequence([task], case.batch, steps=1000, replay=replay)
        self.trainer = trainer_of(case.device, case.precision)
        self._attach(teaches)
        images = torch.stack([image for image, _ in task.train_set])
        labels = torch.tensor([label for _, label in task.train_set])
        device = self.method.clip.logit_scale.device
        self.batch: dict[str, Any] = {"task": (self._normalised(images).to(device), labels.to(device))}
        if replay is not None:
            self.batch["replay"] = self.method.replay_batch(torch.arange(case.batch))  # type: ignore[attr-defined]
        self.optimizer: Optimizer = self.method.configure_optimizers()["optimizer"]

    def _attach(self, teaches: bool) -> None:
        method, sequence, trainer = self.method, self.sequence, self.trainer
        trainer.strategy.connect(method)
        method.trainer = sequence.trainer = trainer
        trainer.datamodule = sequence  # type: ignore[attr-defined]
        sequence.setup("fit")
        method.setup("fit")
        trainer.precision_plugin.convert_module(method)
        method.to(trainer.strategy.root_device)
        method.train()
        sequence.prepare_task(0)
        method.prepare_task(0)
        if not isinstance(method, DistillationCLIP):
            return
        if teaches:
            method.teacher_snapshot.prepare_task(trainer, method, 0)
            return
        counts = len(sequence.replay_images), len(method.replay_texts())
        method.teacher_features = Pairs(*(torch.rand(n, method.clip.model.visual.output_dim) for n in counts))

    def _normalised(self, images: Tensor) -> Tensor:
        return self.sequence.preprocessing.normalize(images)

    def step(self) -> None:
        """One optimiser step as Lightning makes it, without its loop."""
        self.optimizer.zero_grad()
        self.differentiate()
        self.method.on_before_optimizer_step(self.optimizer)
        self.optimizer.step()

    def differentiate(self) -> None:
        """The part of a step in which the towers work."""
        with self.trainer.precision_plugin.train_step_context():
            loss = self.method.training_step(self.batch, 0)
        loss.backward()

    @property
    def loss(self) -> float:
        """The sum of the terms of the latest loss."""
        return float(sum(term.item() for term in self.method.losses.values()))

    def inputs(self) -> Inputs:
        """The batch for the textbook."""
        images, labels = self.batch["task"]
        classes = self._tokens(self.sequence.tasks[0].training_prompts())
        if "replay" not in self.batch:
            return Inputs(images, labels, classes, images, classes, labels)
        replayed, index = self.batch["replay"][:2]
        texts = self._tokens(self.method.replay_texts())  # type: ignore[attr-defined]
        texts = texts[index] if self.case.method == "gift" else texts
        return Inputs(images, labels, classes, replayed, texts, index)

    def _tokens(self, texts: list[str]) -> Tensor:
        return self.method.clip.tokenizer(texts).to(self.method.clip.logit_scale.device)


def trainer_of(device: str, precision: Any = "32-true", **settings: Any) -> Trainer:
    """A trainer that writes and shows nothing."""
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    defaults: dict[str, Any] = {**SEQUENCE_DEFAULTS, **quiet, "max_epochs": 1, "log_every_n_steps": 1000}
    callbacks = [TaskBoundary(), *settings.pop("callbacks", [])]
    return Trainer(
        accelerator=device, devices=1, precision=precision, callbacks=callbacks, **{**defaults, **settings}
    )
