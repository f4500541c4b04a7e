"""``doctor --bench``: the images that loading delivers on this machine, beside those that a training step takes."""

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import islice
from math import ceil
from typing import Any

import torch
from jsonargparse import Namespace
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F
from torch.utils.data import ConcatDataset, Subset

from datamodules import TaskSequence
from datamodules.base import Task
from gift_lightning.clip.model import CLIP, cosine
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.numerics.precision import float32_products

BATCHES = 5
"""Batches of each worker process that are timed."""

STEPS = 3
"""Training steps of which the fastest counts."""

_HALVES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def show_rates(source: CLIPSource | None, sequence: TaskSequence, trainer: Namespace, console: Console) -> None:
    """Time the loading of training images and a bare step, and say which of them bounds a run.

    The step is forward and backward of both towers, on one device: what a method adds (a teacher, replay, the
    optimiser) leaves even more time for loading.

    Args:
        source: the CLIP; ``None`` for a method that takes no steps.
        sequence: its tasks; those whose data is here are read.
        trainer: its settings.
        console: to print on.

    Raises:
        InputError: an image does not decode, or the device has not enough memory for a step.
    """
    present = [task for task, each in enumerate(sequence.tasks) if hasattr(each, "train_set")]
    console.print()
    if source is None or not present:
        reason = "no data set is here" if not present else "this method takes no training steps"
        console.print(f"Nothing is timed: {reason}.")
        return
    try:
        sequence.preprocessing = clip = source.load()
    except InputError as error:
        console.print(f"Nothing is timed: {error}", soft_wrap=True)
        return
    workers, device = sequence.num_workers, run_device(str(trainer.accelerator))
    loading = loading_rate(sequence, present)
    size = max(1, sequence.batch_size // int(trainer.accumulate_grad_batches or 1))
    largest = max((sequence.tasks[task] for task in present), key=lambda task: len(task.class_names))
    step = step_rate(clip, largest, size, device, _HALVES.get(str(trainer.precision)))
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("speed")
    table.add_column("images/s", justify="right")
    table.add_row(f"loading and augmentation, num_workers {workers}", f"{loading:.0f}")
    table.add_row(f"forward and backward of both towers on {device.type}, batches of {size}", f"{step:.0f}")
    console.print(table)
    console.print(bound(loading, step, workers, cores()), soft_wrap=True)


def loading_rate(sequence: TaskSequence, tasks: Sequence[int]) -> float:
    """Training images per second that the loader delivers, with the sequence's ``num_workers``; the same of each task.

    The clock begins when each worker has delivered a batch: their start does not count.
    """
    first = max(1, sequence.num_workers)
    count = (BATCHES + 1) * first
    each = ceil(count * sequence.batch_size / len(tasks))
    sets: list[Any] = [sequence.train_set(task) for task in tasks]
    parts: list[Any] = [Subset(images, range(0, len(images), ceil(len(images) / each))) for images in sets]
    images: Any = ConcatDataset(parts)
    batches = iter(sequence.loader_of(images, count, "bench"))
    for _ in islice(batches, first):
        pass
    began = time.perf_counter()
    delivered = sum(len(labels) for _, labels in batches)
    return delivered / (time.perf_counter() - began)


def step_rate(clip: CLIP, task: Task, batch: int, device: torch.device, half: torch.dtype | None) -> float:
    """Images per second of forward and backward of both towers, over the class prompts of a task.

    Args:
        clip: goes to the device, and all of it learns.
        task: whose prompts are encoded in each step.
        batch: images in a step.
        device: computes.
        half: precision of the products, as in mixed precision; ``None`` for float32.
    """
    tokens = clip.tokenize(task.training_prompts()).to(device)
    try:
        clip.to(device).requires_grad_(True)
        images = torch.randn(batch, 3, *_pair(clip.model.visual.image_size), device=device)
        with float32_products(device, tf32=half is None):
            return batch / min([_step(clip, images, tokens, half) for _ in range(STEPS + 1)][1:])
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{device} has not enough memory for a step of {batch} images: lower `data.batch_size`, or raise"
            " `trainer.accumulate_grad_batches`."
        ) from error


def _step(clip: CLIP, images: torch.Tensor, tokens: torch.Tensor, half: torch.dtype | None) -> float:
    """Seconds of a step."""
    labels, device = torch.zeros(len(images), dtype=torch.long, device=images.device), images.device.type
    began = time.perf_counter()
    with nullcontext() if half is None else torch.autocast(device, half):
        logits = cosine(clip.encode_image(images), clip.encode_text(tokens))
    F.cross_entropy(logits.float(), labels).backward()
    float(sum(each.grad.sum() for each in clip.parameters() if each.grad is not None))  # waits for the device
    clip.zero_grad()
    return time.perf_counter() - began


def bound(loading: float, step: float, workers: int, available: int) -> str:
    """What bounds a run, and the setting that helps, in one sentence.

    Args:
        loading: images per second that ``workers`` processes load.
        step: images per second of a training step.
        workers: processes that load; with 0 the training process loads between its steps.
        available: cores of this machine.

    >>> bound(900.0, 500.0, 4, 16)
    'The device bounds the run: loading is faster.'
    >>> bound(100.0, 500.0, 0, 16)
    'Loading takes 83 % of the time: set data.num_workers to 5.'
    """
    share = step / (loading + step)
    if workers and loading >= step:
        return "The device bounds the run: loading is faster."
    if not workers and share < 0.1:
        return f"The device bounds the run: loading takes {100 * share:.0f} % of the time."
    needed, most = ceil(max(1, workers) * step / loading), max(1, available)
    how = "Loading bounds the run" if workers else f"Loading takes {100 * share:.0f} % of the time"
    if needed <= most:
        return f"{how}: set data.num_workers to {needed}."
    if workers < most:
        return f"{how}: set data.num_workers to {most}, the cores of this machine; {needed} would be needed."
    return f"{how}, on all {most} cores of this machine: smaller image files, or more cores, would make it faster."


def run_device(accelerator: str) -> torch.device:
    """The device that a run with this ``trainer.accelerator`` computes on."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if accelerator != "cpu" and torch.backends.mps.is_available() else "cpu")


def cores() -> int:
    """Cores of this machine that the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)
