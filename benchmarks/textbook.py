"""The textbook's training steps: the formulas of the papers as one would write them down, in plain PyTorch.

All texts have 77 positions, the teacher sees each batch, every penalty goes through autograd. Nothing here is shared
with the methods of this project, so that equal losses of both mean something.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.nn import functional as F

SMOOTHING, TEMPERATURE, ALPHA, BETA = 0.2, 2.0, 1.0, 0.25
EXPERTS, TOP_K, WIDTH, DROPOUT = 22, 2, 64, 0.1


@dataclass
class Inputs:
    """One batch, on a device; all texts as token ids with 77 positions.

    Attributes:
        images, labels: of the task, ``[n, 3, H, W]`` and ``[n]``.
        classes: prompts of the task's classes, ``[C, 77]``.
        replay_images: ``[b, 3, H, W]``.
        replay_texts: those of the images ``[b, 77]``; for ZSCL all reference sentences ``[P, 77]``.
        text_index: which text each replay image has, ``[b]``.
    """

    images: Tensor
    labels: Tensor
    classes: Tensor
    replay_images: Tensor
    replay_texts: Tensor
    text_index: Tensor


class Textbook:
    """A model in training by one of ``STEPS``, with AdamW.

    Args:
        method: a name in ``STEPS``.
        model: an open_clip model, which is changed.
        inputs: the batch of all steps.

    Attributes:
        loss: of the latest step, a scalar.
    """

    loss: Tensor

    def __init__(self, method: str, model: Any, inputs: Inputs) -> None:
        self.inputs, self.model = inputs, model.train()
        self.model.logit_scale.requires_grad_(False)
        self.losses = partial(STEPS[method], self)
        if method == "moe_adapter":
            model.requires_grad_(False)
            for block in [*model.visual.transformer.resblocks, *model.transformer.resblocks]:
                block.experts = Experts(block.ln_1.normalized_shape[0]).to(block.ln_1.weight)
                block.forward = partial(block_with_experts, block)
        elif method != "finetune":
            self.teacher: Any = deepcopy(model).requires_grad_(False).eval()
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.start = [weight.detach().clone() for weight in self.weights] if method in ("gift", "zscl") else []
        self.optimizer = torch.optim.AdamW(self.weights, lr=1e-5, weight_decay=0.0)

    def step(self) -> None:
        """One optimiser step."""
        self.optimizer.zero_grad()
        self.loss = self.losses().detach()
        self.optimizer.step()

    def task_loss(self) -> Tensor:
        image, text = _features(self.model, self.inputs.images, self.inputs.classes)
        return F.cross_entropy(
            self.model.logit_scale.exp() * image @ text.T, self.inputs.labels, label_smoothing=SMOOTHING
        )

    def penalty(self, importance: list[Tensor] | None = None) -> Tensor:
        """``sum F (theta - theta_start)^2``."""
        total = torch.zeros((), device=self.start[0].device)
        for number, (weight, start) in enumerate(zip(self.weights, self.start, strict=True)):
            square = (weight - start) ** 2
            total = total + (square if importance is None else importance[number] * square).sum()
        return total


def finetune(book: Textbook) -> Tensor:
    """Cross-entropy over the class prompts."""
    loss = book.task_loss()
    loss.backward()
    return loss


def gift(book: Textbook) -> Tensor:
    """Contrastive distillation and alignment on synthetic pairs, and the penalty weighted by their squared gradient."""
    inputs, scale = book.inputs, book.model.logit_scale.exp()
    with torch.no_grad():
        image, text = _features(book.teacher, inputs.replay_images, inputs.replay_texts)
        teacher = scale * image @ text.T
    image, text = _features(book.model, inputs.replay_images, inputs.replay_texts)
    student = scale * image @ text.T
    same = (inputs.text_index[:, None] == inputs.text_index).float()
    targets = same / same.sum(1, keepdim=True)
    distilled = _soft(teacher, student) + _soft(teacher.T, student.T)
    aligned = F.cross_entropy(student, targets, label_smoothing=SMOOTHING)
    aligned = aligned + F.cross_entropy(student.T, targets, label_smoothing=SMOOTHING)
    replayed = ALPHA * distilled + BETA * aligned
    replayed.backward()
    squares = [torch.zeros_like(w) if w.grad is None else w.grad**2 for w in book.weights]
    importance = [square / square.mean().clamp(min=1e-30) for square in squares]
    rest = book.task_loss() + book.penalty(importance)
    rest.backward()
    return replayed.detach() + rest


def zscl(book: Textbook) -> Tensor:
    """Distillation of reference images over reference sentences, and the penalty."""
    inputs, scale = book.inputs, book.model.logit_scale.exp()
    with torch.no_grad():
        parts = inputs.replay_texts.split(2000)
        text = torch.cat([F.normalize(book.teacher.encode_text(part), dim=-1) for part in parts])
        teacher = scale * F.normalize(book.teacher.encode_image(inputs.replay_images), dim=-1) @ text.T
    student = scale * F.normalize(book.model.encode_image(inputs.replay_images), dim=-1) @ text.T
    loss = book.task_loss() + _soft(teacher, student) + _soft(teacher.T, student.T) + book.penalty()
    loss.backward()
    return loss


STEPS: dict[str, Callable[[Textbook], Tensor]] = {
    "finetune": finetune,
    "gift": gift,
    "zscl": zscl,
    "moe_adapter": finetune,
}
"""The gradient of a step, by the name of the method."""


class Experts(nn.Module):
    """The experts and the router of a block: the samples that chose an expert go through it, one expert after another.

    Args:
        width: of a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(width, WIDTH) for _ in range(EXPERTS))
        self.up = nn.ModuleList(nn.Linear(WIDTH, width) for _ in range(EXPERTS))
        for weight in self.up.parameters():
            nn.init.zeros_(weight)
        self.gate = nn.Parameter(torch.zeros(width, EXPERTS))
        self.gate_noise = nn.Parameter(torch.zeros(width, EXPERTS))

    def forward(self, x: Tensor) -> Tensor:
        first = x[:, 0]
        noise = torch.randn(len(x), EXPERTS, device=x.device)
        logits = first @ self.gate + noise * (F.softplus(first @ self.gate_noise) + 0.01)
        values, chosen = logits.topk(TOP_K, dim=1)
        gates, mixed = values.softmax(1), torch.zeros_like(x)
        for expert, (down, up) in enumerate(zip(self.down, self.up, strict=True)):
            if isinstance(x, FakeTensor):  # where only FLOPs are counted nothing is chosen: give each expert its share
                rows = torch.tensor(
                    [row for row in range(len(x)) if expert in (2 * row % EXPERTS, 2 * row % EXPERTS + 1)]
                )
                places = torch.zeros_like(rows)
            else:
                rows, places = (chosen == expert).nonzero(as_tuple=True)
            if len(rows):
                output = 0.1 * up(F.dropout(down(x[rows]).relu(), DROPOUT))
                mixed = mixed.index_add(0, rows, gates[rows, places][:, None, None] * output)
        return mixed


def block_with_experts(block: Any, q_x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """A block of a transformer, with its experts beside the MLP."""
    x = q_x + block.ls_1(block.attention(q_x=block.ln_1(q_x), attn_mask=attn_mask))
    return x + block.ls_2(block.mlp(block.ln_2(x))) + block.experts(x)


def _features(model: Any, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    return F.normalize(model.encode_image(images), dim=-1), F.normalize(model.encode_text(texts), dim=-1)


def _soft(teacher: Tensor, student: Tensor) -> Tensor:
    """``T^2 H(softmax(teacher / T), softmax(student / T))``, the mean over rows."""
    targets = (teacher / TEMPERATURE).softmax(1)
    return TEMPERATURE**2 * F.cross_entropy(student / TEMPERATURE, targets)
