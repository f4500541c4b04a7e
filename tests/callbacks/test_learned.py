"""What a method learns beside the CLIP is kept for predictions, or the run is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from callbacks.learned import Learned
from datamodules.mini import Flags, Shapes
from gift_lightning.errors import InputError
from gift_lightning.low_rank import LoRA
from gift_lightning.methods import ConDU, Finetune, MoEAdapter
from gift_lightning.methods.base import FrozenCopy
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
        )
        assert status == 2 and len(err.strip().splitlines()) == 1, err
        assert err.startswith(f"error: {kind.__name__} learn")


@pytest.mark.parametrize("kind", [KeptHead, PackedHead, HeadOfTraining, Copy])
def test_what_is_kept_or_is_not_needed_goes_on(kind: type[Finetune]) -> None:
    fit(kind)


def test_methods_that_keep_more_than_the_clip_keep_all_of_it() -> None:
    fit(ConDU)  # type: ignore[arg-type]
    fit(ConDU, lora=LoRA(rank=2))  # type: ignore[arg-type]
    fit(MoEAdapter, experts=2, width=2, frozen_experts=1, selector_steps=2, code=4)  # type: ignore[arg-type]


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
