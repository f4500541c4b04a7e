"""A list of images and one of class names, as a task: what ``predict`` takes."""

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from PIL import Image

from datamodules.base import Task, is_template
from datamodules.images.decoding import jpeg_fault, upright_rgb
from gift_lightning.console import warn
from gift_lightning.errors import InputError
from gift_lightning.names import fault_of


def task_of(images: Sequence[Image.Image], class_names: Sequence[str], templates: Sequence[str]) -> Task:
    """A task whose test set is ``images``, all decoded, with the label 0; see ``ContinualCLIP.predict``.

    Raises:
        InputError: no list of images or of classes, a template without ``{}``, or an image that does not decode or
            is not taken (see ``upright_rgb``).
    """
    if not isinstance(images, Sequence) or not all(isinstance(image, Image.Image) for image in images):
        raise InputError("predict needs a list of PIL images, as PIL.Image.open gives them.")
    names, prompts = _texts(class_names), _texts(templates)
    if not names:
        raise InputError("predict needs a list of class names.")
    for name in names:
        if fault := fault_of(name):
            raise InputError(f"predict needs names of classes: {name!r} {fault}.")
    if not prompts or not all(map(is_template, prompts)):
        raise InputError("predict needs a list of templates, each with one {} for the class name.")
    task = Task()
    task.name, task.class_names, task.templates = "predict", names, prompts
    task.test_set = [(_decoded(image, index), 0) for index, image in enumerate(images)]
    return task


def _decoded(image: Image.Image, index: int) -> Image.Image:
    """An image in RGB; warns if it is opened from a JPEG file that is damaged."""
    decoded, file = upright_rgb(image, f"predict: image {index}"), getattr(image, "filename", "")
    if file and (fault := jpeg_fault(Path(os.fsdecode(file)))):
        warn(
            f"predict: libjpeg reports damage in image {index}, {file} ({fault}), which decodes all the same: its"
            " pixels may be wrong."
        )
    return decoded


def _texts(given: Any) -> list[str]:
    """The texts of a list or an array, as plain strings; none if it is something else or holds something else."""
    # a set has no order, so that nobody knows which class is which
    if isinstance(given, str | bytes | Set | Mapping) or not isinstance(given, Iterable):
        return []
    texts = list(given)
    return [str(text) for text in texts] if all(isinstance(text, str) for text in texts) else []
