"""The answer of the page: what the models of runs say to an image and class names, or one sentence."""

from collections.abc import Mapping
from pathlib import Path

from datamodules.images.decoding import jpeg_fault, read_image
from gift_lightning.commands.demo.tables import message, tables
from gift_lightning.errors import InputError
from gift_lightning.runs.kept_models import KeptModels

GUIDE = "Drop an image and type the names of at least two classes."
"""What to do on the page."""


def class_names_in(text: str) -> list[str]:
    """The class names in a text: one a line, or in a text of one line separated by commas; each once.

    >>> class_names_in("star, heart, star")
    ['star', 'heart']
    >>> class_names_in("barracouta, snoek\\ntench\\n")
    ['barracouta, snoek', 'tench']
    """
    lines = text.strip().splitlines()
    names = lines[0].split(",") if len(lines) == 1 else lines
    return [*dict.fromkeys(name.strip() for name in names if name.strip())]


def answer(runs: Mapping[str, KeptModels], image: Path | None, class_names: str, templates: str) -> str:
    """What the models of runs say to an image, as HTML; bad input is one sentence there.

    Args:
        runs: by name.
        image: its file; ``None`` without one.
        class_names: see ``class_names_in``.
        templates: prompts with one ``{}`` for the class name, one a line.
    """
    names = class_names_in(class_names)
    if image is None or len(names) < 2:
        return message(GUIDE if image is None else "Type the names of at least two classes.")
    try:
        decoded, fault = read_image(image, "The image", "drop another one."), jpeg_fault(image)
        prompts = [line.strip() for line in templates.splitlines() if line.strip()]
        said = {run: models.predict([decoded], names, prompts)[:, 0] for run, models in runs.items()}
    except InputError as error:
        return message(str(error), is_fault=True)
    notes = [f"libjpeg reports damage in the image ({fault}): its pixels may be wrong."] if fault else []
    return tables(runs, said, names, notes)
