"""The images and classes that ``predict`` is called with."""

import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from PIL import Image

from datamodules.base import Candidates, is_template
from datamodules.images.decoding import jpeg_fault, upright_rgb
from datamodules.images.sets import ImageSet
from gift_lightning.console import warn
from gift_lightning.errors import InputError
from gift_lightning.names import fault_of


class NamedClasses(Candidates):
    """Any classes, by their names, as candidates for any images.

    Args:
        class_names: a list, or an array.
        templates: prompts with one ``{}`` for the class name.

    Raises:
        InputError: no list of texts, a name that is none, or a template without ``{}``.
    """

    name = ""  # of no task, so that a method with an expert for each task takes none

    def __init__(self, class_names: Sequence[str], templates: Sequence[str]) -> None:
        self.class_names, self.templates = _texts(class_names), _texts(templates)
        if not self.class_names:
            raise InputError("class_names is no list of texts, or an empty one: give the names of the classes.")
        for name in self.class_names:
            if fault := fault_of(name):
                raise InputError(f"class_names has a name {name!r} that {fault}: give the class another one.")
        if not self.templates or not all(map(is_template, self.templates)):
            raise InputError("templates is no list of prompts with one {} for the class name each: give at least one.")


def decoded_samples(images: Sequence[Image.Image]) -> ImageSet:
    """The images, decoded, upright and in RGB, all with the label 0.

    Raises:
        InputError: no list of images, or an image that does not decode or is not taken (see ``upright_rgb``).
    """
    if not isinstance(images, Sequence) or not all(isinstance(image, Image.Image) for image in images):
        raise InputError("images is no list of PIL images: give one, of images as PIL.Image.open returns them.")
    return [(_decoded(image, index), 0) for index, image in enumerate(images)]


def _decoded(image: Image.Image, index: int) -> Image.Image:
    """An image in RGB; warns if it is opened from a JPEG file that is damaged."""
    decoded, file = upright_rgb(image, f"images[{index}]"), getattr(image, "filename", "")
    if file and (fault := jpeg_fault(Path(os.fsdecode(file)))):
        warn(
            f"images[{index}]: libjpeg reports damage in {file} ({fault}), which decodes all the same: its pixels may"
            " be wrong."
        )
    return decoded


def _texts(texts: Any) -> list[str]:
    """The texts of a list or an array, as plain strings; none if it is something else or holds something else."""
    # a set has no order: the classes would have no numbers
    if isinstance(texts, str | bytes | Set | Mapping) or not isinstance(texts, Iterable):
        return []
    listed = list(texts)
    return [str(text) for text in listed] if all(isinstance(text, str) for text in listed) else []
