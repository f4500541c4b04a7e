"""A method on random weights, images and classes, ready for a step: what the benchmarks of steps compute on."""

from collections.abc import Sequence
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
        train, test = transforms
        return CLIP(model, train, test, open_clip.get_tokenizer(self.name))


class RandomTask(Task):
    """A task of random images, uint8 ``[3, size, size]`` in memory, with class names of ImageNet."""

    def __init__(self, classes: int, images: int, size: int) -> None:
        super().__init__()
        self.name, self.templates = "Random", ["a photo of a {}."]
        self.class_names = [f"{CLASS_NAMES[index % 1000]} {index // 1000 or ''}".strip() for index in range(classes)]
        labels = torch.randint(classes, (images,), generator=torch.Generator().manual_seed(1)).tolist()
        pairs = list(zip(random_images(images, size), labels, strict=True))
        self.train_set = self.test_set = pairs  # type: ignore[assignment]

    @property
    def fingerprint(self) -> str:
        return "random"


def random_images(count: int, size: int) -> Tensor:
    """Uint8 ``[count, 3, size, size]``."""
    shape, generator = (count, 3, size, size), torch.Generator().manual_seed(2)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


class RandomReplay(Replay):
    """Random images with texts about classes of ImageNet.

    Args:
        images: how many.
        texts: how many; image ``i`` has text ``i``, begun again after the last.
        paired: see ``Replay``.
    """

    def __init__(self, images: int, texts: int, size: int, batch_size: int, paired: bool) -> None:
        super().__init__(batch_size)
        self.paired, of_images = paired, random_images(images, size)
        self.texts = [f"a photo of a {CLASS_NAMES[i % 1000]}{' again' * (i // 1000)}." for i in range(texts)]
        self.pairs = [(image, index % texts) for index, image in enumerate(of_images)]  # type: ignore[assignment]

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
        steps: of the task.
        settings: more arguments of the method.
    """

    method: str
    batch: int = 4
    classes: int = 100
    texts: int = 1000
    model: str = "ViT-B-16-quickgelu"
    device: str = "cpu"
    precision: Any = "32-true"
    steps: int = 1000
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


def build(case: Case) -> tuple[ContinualCLIP, TaskSequence]:
    """The method and the sequence of a case: one task, with images in memory that are augmented no more."""
    kind, arguments = METHODS[case.method]
    method = kind(clip=RandomCLIP(case.model), **{"lr": 1e-5, "warmup_steps": 0, **arguments, **dict(case.settings)})
    method.clip.train_geometry = method.clip.test_geometry = torch.as_tensor
    size, replay = method.clip.model.visual.image_size[0], None
    if case.method in ("gift", "zscl"):
        replay = RandomReplay(max(2 * case.batch, 16), case.texts, size, case.batch, case.method == "gift")
    task = RandomTask(case.classes, max(2 * case.batch, 16), size)
    return method, TaskSequence([task], case.batch, steps=case.steps, replay=replay)


class Workload:
    """A method before the first step of a sequence, attached to a trainer whose loop is not used.

    Args:
        method, sequence: not set up.
        trainer: of ``trainer_of``.
        teaches: whether the teacher encodes the replay set; without, its features are random.

    Attributes:
        batch: as ``training_step`` gets it: the first images in order.
    """

    def __init__(self, method: ContinualCLIP, sequence: TaskSequence, trainer: Trainer, teaches: bool = True) -> None:
        self.method, self.sequence, self.trainer = method, sequence, trainer
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
        if isinstance(method, DistillationCLIP):
            if teaches:
                method.teacher_snapshot.prepare_task(trainer, method, 0)
            else:
                counts = len(sequence.replay_images), len(method.replay_texts())
                method.teacher_features = Pairs(*(torch.rand(n, method.clip.model.visual.output_dim) for n in counts))
        configured = method.configure_optimizers()
        self.optimizer: Optimizer = configured["optimizer"]
        self.schedule = configured["lr_scheduler"]["scheduler"]
        self.batch = self.batch_of(range(sequence.batch_size))

    def batch_of(self, rows: Sequence[int]) -> dict[str, Any]:
        """A batch of these training images, read and augmented one by one, and of replayed ones."""
        samples, geometry = self.sequence.train_set(0), self.method.clip.train_geometry
        read = [samples[row] for row in rows]
        images = torch.stack([geometry(image) for image, _ in read]).to(self.method.device)
        labels = torch.tensor([label for _, label in read]).to(self.method.device)
        batch: dict[str, Any] = {"task": (self.method.clip.normalize(images), labels)}
        if self.sequence.replay is not None:
            count = len(self.sequence.replay_images)
            batch["replay"] = self.sequence.replay_batch(
                torch.arange(rows[0], rows[0] + self.sequence.replay.batch_size) % count
            )
        return batch

    def step(self) -> None:
        """One optimiser step as Lightning makes it, without its loop."""
        self.optimizer.zero_grad()
        self.differentiate()
        self.method.complete_gradient(self.optimizer)
        self.optimizer.step()
        self.schedule.step()

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
        replayed, index = self.batch["replay"].images, self.batch["replay"].text_index
        assert isinstance(self.method, DistillationCLIP)
        texts = self._tokens(self.method.replay_texts())
        texts = texts[index] if self.sequence.replay.paired else texts  # type: ignore[union-attr]
        return Inputs(images, labels, classes, replayed, texts, index)

    def _tokens(self, texts: list[str]) -> Tensor:
        return self.method.clip.tokenizer(texts).to(self.method.clip.logit_scale.device)


def trainer_of(device: str, precision: Any = "32-true", **settings: Any) -> Trainer:
    """A trainer that writes and shows nothing."""
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    defaults: dict[str, Any] = {**SEQUENCE_DEFAULTS, **quiet, "max_epochs": 1, "log_every_n_steps": 1000}
    callbacks = [TaskBoundary(), *settings.pop("callbacks", [])]
    return Trainer(accelerator=device, devices=1, precision=precision, callbacks=callbacks, **{**defaults, **settings})
