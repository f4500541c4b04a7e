"""The training runs of the golden files, built with our methods; all hyper-parameters come from the files."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch

from datamodules import CurrentTask
from datamodules.base import Replay
from gift_lightning.methods import (
    GIFT,
    L2,
    ZSCL,
    ContinualCLIP,
    Finetune,
    GIFTAblation,
    ICaRL,
    LwF,
    LwFVR,
    WeightAveraging,
    WiSEFT,
    ZSCLAblation,
)
from tests.golden.golden import (
    BETA1,
    GoldenCurrentTask,
    GoldenMemory,
    GoldenReplay,
    GoldenTask,
    TinyCLIP,
    numbers,
    settings,
    texts,
)

Values = dict[str, Any]


@dataclass
class Run:
    """A method on one task, or on two of which the last is compared.

    Attributes:
        scale: what the authors' ``*_raw`` losses are multiplied by.
    """

    method: ContinualCLIP
    tasks: list[GoldenTask]
    replay: Replay | None
    steps: int
    scale: float = 1.0


def build(name: str, dtype: torch.dtype, cut_text: bool = False) -> Run:
    """A golden run; skips that of a method that does not exist yet."""
    file, values = numbers(f"trajectories/{name}.json"), settings(name)
    in_classes = file["function"] == "ClassIncremental.train"
    kind = "class-incremental" if in_classes else values.get("method", "finetune")
    known, make = KINDS.get(kind, (set(), None))
    unknown = sorted(key for key, value in values.items() if key not in COMMON | known and value)
    if unknown or make is None:
        pytest.skip(f"{name}: no method yet for {kind} with {', '.join(unknown)}")
    common: Values = {"lr": values["lr"], "label_smoothing": values["ls"]}
    if in_classes:
        common |= {"warmup_steps": 30, "weight_decay": values["weight_decay"]}
    else:
        common |= {"warmup_steps": values["warmup_length"], "weight_decay": values["wd"]}
        common["betas"] = (BETA1, values["beta2"])
    # the initial model is the tiny CLIP, whatever the weights at which the run starts
    common["clip"] = TinyCLIP("tiny_clip", dtype=dtype, cut_text=cut_text)
    run: Run = make(values, common)
    if not in_classes:
        run.method.clip.model.load_state_dict(numbers(f"{file['start_weights']}.safetensors"))
    # their loop makes one step more than it is asked for, at rate 0 where the rate is a cosine
    run.steps = file["n_optimizer_steps"] - (0 if in_classes else 1)
    return run


def _task(values: Values) -> GoldenTask:
    found = re.fullmatch(r"Task([A-Z])(\d*)", values["train_dataset"])
    assert found, values["train_dataset"]
    return GoldenTask(found[1], int(found[2]) if found[2] else None)


def _finetune(values: Values, common: Values) -> Run:
    """Fine-tuning, with what the authors' code can add to it."""
    every, method = values["avg_freq"], Finetune(**common)
    if values.get("l2"):
        method = L2(l2=values["l2"], **common)  # type: ignore[assignment]
    elif values.get("we") or values.get("we_wise"):
        pull = 1 - values["we_wise_alpha"] if values.get("we_wise") else 0.0
        method = WeightAveraging(average="mean", every=every, pull=pull, **common)  # type: ignore[assignment]
    elif values.get("moving_avg"):
        average, pull = {"n": "start", "t": "last"}[values["mv_avg_model"]], 1 - values["mv_avg_decay"]
        method = WeightAveraging(average=average, every=every, pull=pull, **common)  # type: ignore[arg-type, assignment]
    elif values.get("wise_merge"):
        start = {"n": "last", "zeroshot": "initial"}[values["wise_ft_model"]]
        method = WiSEFT(alpha=values["wise_ft_alpha"], start=start, **common)  # type: ignore[arg-type, assignment]
    return Run(method, [_task(values)], None, 0)


VARIANTS = {"image_only": "image", "text_only": "text", "feature_mse": "feature", "kl_div": "reversed"}


def _gift(values: Values, common: Values) -> Run:
    teacher, _, initial_weight = values["ref_model"].partition(":")
    consolidation = "off" if not values["l2"] else "adaptive" if values.get("awc") else "l2"
    variant = {
        "teacher": {"load": "last", "merge": "wise"}.get(teacher, "initial"),
        "distillation": next((VARIANTS[key] for key in VARIANTS if values.get(key)), "contrastive"),
        "consolidation": consolidation,
    }
    published = {"teacher": "last", "distillation": "contrastive", "consolidation": "adaptive"}
    kind = GIFT if variant == published else partial(GIFTAblation, **variant, initial_weight=float(initial_weight or 0))
    gift = kind(
        distillation_weight=values["distill"],
        alignment_weight=values["ita"],
        temperature=values["T"],
        consolidation_weight=values["l2"],
        **common,
    )
    return Run(gift, [_task(values)], GoldenReplay("S", texts("S")), 0)


def _distilled(values: Values, common: Values) -> Run:
    """ZSCL and LwF: the same code of the authors with other data."""
    task = _task(values)
    weight = 0.5 if values.get("weight_adjust") else 1.0
    teacher = "wise" if values.get("ref_wise") else "last" if values.get("ref_model") else "initial"
    common = {**common, "teacher": teacher, "temperature": values["T"], "distillation_weight": weight}
    if values["ref_dataset"] == "ImageNet":
        further = {"feature_weight": bool(values.get("feature_mse"))}
        further["image_image_weight"] = bool(values.get("ablation_loss_2"))
        zscl = partial(ZSCLAblation, **further) if any(further.values()) else ZSCL
        method: ContinualCLIP = zscl(
            l2=values["l2"],
            average_every=values["avg_freq"] if values.get("we") else None,
            initial_weight=1 - values.get("ref_wise_alpha", 1.0),
            **common,
        )
        return Run(method, [task], GoldenReplay("R", texts("R")), 0, weight)
    assert values["ref_dataset"] == f"{values['train_dataset']}_rev"
    kind = LwFVR if values.get("ref_sentences") == "random" else LwF
    return Run(kind(**common), [task], GoldenCurrentTask(task), 0, weight)


def _icarl(values: Values, common: Values) -> Run:
    task = _task(values)
    teacher = "last" if values["ref_model"] else "initial"
    return Run(
        ICaRL(teacher=teacher, temperature=values["T"], **common), [task], GoldenMemory(task.training_prompts()), 0
    )  # type: ignore[arg-type]


def _class_incremental(values: Values, common: Values) -> Run:
    """The class-incremental code: weight 5, and for LwF a teacher that is the student itself."""
    letters = ["A", "B"][: values["task_id"] + 1]
    tasks = [GoldenTask(letter) for letter in letters]
    classes = "seen" if values["ce_method"] == "previous" else "task"
    common = {**common, "distillation_weight": 5.0, "classes": classes}
    if values["method"] == "ZSCL":
        method: ContinualCLIP = ZSCL(l2=values["l2"], average_every=values["avg_freq"], **common)
        return Run(method, tasks, GoldenReplay("R", texts("R")), 0, 5.0)
    return Run(LwF(official_quirks=True, **common), tasks, CurrentTask(batch_size=8), 0, 5.0)


COMMON = {"method", "lr", "ls", "warmup_length", "train_dataset", "iterations", "epochs", "note", "wd", "beta2"}
COMMON |= {"session", "T", "avg_freq", "mv_avg_decay", "mv_avg_model", "we_wise_alpha", "ref_wise_alpha"}
COMMON |= {"wise_ft_alpha", "wise_ft_model"}  # no effect without their switch
ZSCL_KEYS = {"image_loss", "text_loss", "ref_dataset", "ref_sentences", "ref_model", "we", "l2", "feature_mse"}
ZSCL_KEYS |= {"ablation_loss_2", "weight_adjust", "ref_wise"}
CLASS_KEYS = {"prompt_template", "initial_increment", "increment", "weight_decay", "we", "l2", "ce_method"}
CLASS_KEYS |= {"batch_size", "ref_dataset", "ref_sentences", "dataset", "model_name", "task_id"}
KINDS: dict[str, tuple[set[str], Callable[[Values, Values], Run]]] = {
    "finetune": ({"l2", "we", "we_wise", "moving_avg", "wise_merge"}, _finetune),
    "GIFT": ({"l2", "ref_dataset", "distill", "ita", "awc", "ref_model", *VARIANTS}, _gift),
    "ZSCL": (ZSCL_KEYS, _distilled),
    "icarl": ({"image_loss", "text_loss", "ref_model"}, _icarl),
    "class-incremental": (CLASS_KEYS, _class_incremental),
}
