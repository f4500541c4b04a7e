"""What a method learns beside the CLIP is kept for predictions, or the run is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from callbacks.learned import Learned
from datamodules.mini import Flags, Shapes
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.errors import InputError
from gift_lightning.methods import ConDU, Finetune, MoEAdapter
from gift_lightning.numerics.low_rank import LoRA
from tests.callbacks.test_task_boundary import MINI, sequence_of, trainer_with
from tests.e2e.conftest import fit_here


class Head(Finetune):
    """Learns a factor for each feature."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.head = nn.Linear(self.clip.model.text_projection.shape[1], 1)

    def task_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        return super().task_loss(images, labels) + self.head(self.clip.encode_image(images)).square().mean()


class KeptHead(Head):
    not_in_knowledge = ("first",)

    def on_task_end(self, task: int) -> None:
        with torch.no_grad():
            for weight in self.clip.parameters():
                weight.copy_(self.first[id(weight)])

    def on_task_start(self, task: int) -> None:
        self.first = {id(weight): weight.detach().clone() for weight in self.clip.parameters()}

    def knowledge(self) -> dict[str, Tensor]:
        return dict(self.head.state_dict(prefix="head."))


class PackedHead(KeptHead):
    not_in_knowledge = ("head",)

    def knowledge(self) -> dict[str, Tensor]:
        return {"packed": torch.cat([weight.flatten() for weight in self.head.parameters()])}


class HalfHead(KeptHead):
    """Forgets the bias."""

    def knowledge(self) -> dict[str, Tensor]:
        return {"weight of the head": self.head.weight.detach()}


class HeadAndCLIP(Head):
    """Forgets that the CLIP learns too."""

    def knowledge(self) -> dict[str, Tensor]:
        return dict(self.head.state_dict())


class HeadOfTraining(Head):
    not_in_knowledge = ("head",)


class Prompt(Finetune):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prompt = nn.Parameter(torch.zeros(self.clip.model.text_projection.shape[1]))

    def encode(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        image, text = super().encode(images, tokens)
        return image, text + self.prompt


class Mean(Finetune):
    """Counts in a buffer."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("constant", torch.rand(3))

    def task_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        self.mean += images.mean((0, 2, 3)).to(self.mean)
        return super().task_loss(images, labels)


class Norm(Finetune):
    """A normalisation whose statistics follow the data, without parameters."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.norm = nn.BatchNorm1d(self.clip.model.text_projection.shape[1], affine=False)

    def encode(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        image, text = super().encode(images, tokens)
        return self.norm(image), text


class Late(Finetune):
    """Makes a part for each task when it ends."""

    def on_task_end(self, task: int) -> None:
        self.register_parameter(f"task_{task}", nn.Parameter(torch.ones(2), requires_grad=False))


class Recorder(Finetune):
    """Changes something of its own in each task."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.begin()

    def begin(self) -> None:
        pass

    def change(self) -> None:
        raise NotImplementedError

    def on_task_end(self, task: int) -> None:
        self.change()


class Mask(Recorder):
    """The best two of five: their number stays."""

    def begin(self) -> None:
        self.register_buffer("mask", torch.tensor([True, True, False, False, False]))

    def change(self) -> None:
        self.mask.copy_(self.mask.roll(1))


class Order(Recorder):
    def begin(self) -> None:
        self.register_buffer("order", torch.arange(5))

    def change(self) -> None:
        self.order[[1, 2]] = self.order[[2, 1]]


class Unsaved(Recorder):
    def begin(self) -> None:
        self.register_buffer("mean", torch.zeros(2), persistent=False)

    def change(self) -> None:
        self.mean += 1


class Plain(Recorder):
    def begin(self) -> None:
        self.centre = torch.zeros(2)

    def change(self) -> None:
        self.centre = self.centre + 1


class List(Recorder):
    def begin(self) -> None:
        self.protos: list[Tensor] = []

    def change(self) -> None:
        self.protos.append(torch.ones(2))


class Nested(Recorder):
    def begin(self) -> None:
        self.by_task: dict[str, Any] = {"first": (torch.zeros(2), [torch.zeros(3)])}
        self.by_task["itself"] = self.by_task

    def change(self) -> None:
        self.by_task["first"][1][0] += 1


class Inner(Recorder):
    """In a part of the module."""

    def begin(self) -> None:
        self.part = nn.Identity()
        self.part.scale = torch.ones(1)  # type: ignore[assignment]

    def change(self) -> None:
        self.part.scale *= 2  # type: ignore[operator]


class Hidden(Recorder):
    """A module that torch does not see."""

    def begin(self) -> None:
        self.experts = [nn.Linear(2, 1)]

    def change(self) -> None:
        with torch.no_grad():
            self.experts[0].bias += 1


class Stacked(List):
    def knowledge(self) -> dict[str, Tensor]:
        clip = {f"clip.model.{name}": weight.detach() for name, weight in self.clip.model.state_dict().items()}
        return {"protos": torch.stack(self.protos), **clip}


class ListOfTraining(List):
    not_in_knowledge = ("protos",)


class ListOfTheirs(ListOfTraining):
    """What the class above declares still counts."""

    not_in_knowledge = ("more",)

    def change(self) -> None:
        super().change()
        self.more = {"a": torch.rand(2)}


class Harmless(Recorder):
    """Other names for the CLIP's weights, a frozen copy and a metric in a list, and what is no tensor."""

    def begin(self) -> None:
        self.weights = list(self.clip.parameters())
        self.holder = (self.clip,)
        self.copies = [FrozenCopy(self.clip)]
        self.count, self.names = 0, ["a"]
        self.seen = MeanMetric()
        self.metrics = {"loss": MeanMetric()}

    def change(self) -> None:
        self.count += 1
        self.names.append("b")
        self.copies[0].copy_from(self.clip)
        self.seen.update(3.0)
        self.metrics["loss"].update(2.0)


class Copy(Finetune):
    """A frozen copy that only training needs."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start = FrozenCopy(self.clip)

    def on_task_end(self, task: int) -> None:
        self.start.copy_from(self.clip)


def fit(kind: type[Finetune], **arguments: Any) -> None:
    method = kind(clip=MINI, lr=1e-3, warmup_steps=0, **arguments)
    trainer_with(max_epochs=2).fit(method, sequence_of([Flags(8, 3), Shapes(8, 3)]))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Head, "Head learns head.weight beside the CLIP"),
        (Prompt, "Prompt learns prompt beside the CLIP"),
        (Mean, "Mean learned mean beside the CLIP"),
        (Norm, "Norm learned norm.running_mean beside the CLIP"),
        (Late, "Late learned task_0 beside the CLIP"),
        (Mask, "Mask learned mask beside the CLIP"),
        (Order, "Order learned order beside the CLIP"),
        (Unsaved, "Unsaved learned mean beside the CLIP"),
        (Plain, "Plain learned centre beside the CLIP"),
        (List, "List learned protos.0 beside the CLIP"),
        (Nested, "Nested learned by_task.first.1.0 beside the CLIP"),
        (Inner, "Inner learned part.scale beside the CLIP"),
        (Hidden, "Hidden learned experts.0.bias beside the CLIP"),
        (HalfHead, "HalfHead learned head.bias beside the CLIP"),
        (HeadAndCLIP, "HeadAndCLIP changed clip.model.positional_embedding, which is not in its knowledge()"),
    ],
)
def test_what_would_be_lost_stops_the_run(kind: type[Finetune], told: str) -> None:
    with pytest.raises(InputError) as caught:
        fit(kind)
    assert str(caught.value).startswith(told)


def test_the_command_line_tells_it_in_one_sentence(tmp_path: Path) -> None:
    for kind in (Head, Mean):
        status, _, err = fit_here(
            tmp_path / kind.__name__,
            "--model",
            f"{__name__}.{kind.__name__}",
            "--model.lr",
            "1e-3",
            "--data.steps",
            "1",
            "--model.warmup_steps",
            "0",
        )
        assert status == 2 and len(err.strip().splitlines()) == 1, err
        assert err.startswith(f"error: {kind.__name__} learn")
    assert not (tmp_path / "Head").exists()  # this one needed no training to know


@pytest.mark.parametrize(
    "kind", [KeptHead, PackedHead, HeadOfTraining, Copy, Stacked, ListOfTraining, ListOfTheirs, Harmless]
)
def test_what_is_kept_or_is_not_needed_goes_on(kind: type[Finetune]) -> None:
    fit(kind)


def test_methods_that_keep_more_than_the_clip_keep_all_of_it() -> None:
    fit(ConDU)  # type: ignore[arg-type]
    fit(ConDU, lora=LoRA(rank=2))  # type: ignore[arg-type]
    fit(MoEAdapter, experts=2, width=2, frozen_experts=1, selector_steps=2, selector_width=4)  # type: ignore[arg-type]


def test_a_checksum_sees_every_kind_of_number() -> None:
    learned = Learned()
    module = Mean(clip=MINI)
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.uint8, torch.complex64):
        module.mean = torch.zeros(3, dtype=dtype)
        learned.begin(module)
        learned.check(module)
        module.mean[1] = 1
        with pytest.raises(InputError, match="learned mean"):
            learned.check(module)
