"""What was evaluated, as one hash: runs whose protocols agree may be compared."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from gift_lightning.clip import CLIP
from gift_lightning.describe import describe
from gift_lightning.errors import InputError


def protocol(sequence: Any, clip: CLIP) -> dict[str, Any]:
    """Identity of an evaluation: ``{"id", "label_space", "fingerprints", "sizes", "weights"}``.

    The id covers the tasks in order (name, data, class names, templates, test size), the label space, the test
    transform and the starting weights. Seed and method stay out: they are what one compares. The data is that of the
    lists of images; other images under the same names are told by ``sizes`` (``other_images``).

    Args:
        sequence: the ``TaskSequence``, set up.
        clip: the model with its starting weights.

    Raises:
        InputError: the test transform cannot be described, see ``describe``.
    """
    label_space, tasks = sequence.label_space, sequence.tasks
    weights = clip.fingerprint()
    prints = {task.name: task.fingerprint for task in tasks}
    for task in tasks:
        if shots := sequence.shots_of(task):
            prints[task.name] += f", {shots} shots"
    described = [[task.name, prints[task.name], task.class_names, task.templates, len(task.test_set)] for task in tasks]
    try:
        transform = describe(clip.test_transform)
    except InputError as error:
        raise InputError(
            f"The CLIP's test transform cannot be told from another, so that nobody can say what was evaluated: {error}"
            " Let it hold numbers, texts, tensors, functions and other transforms alone."
        ) from error
    canonical = json.dumps([described, label_space, transform, weights], separators=(",", ":"))
    return {
        "id": hashlib.sha256(canonical.encode()).hexdigest(),
        "label_space": label_space,
        "fingerprints": prints,
        "sizes": {task.name: sizes for task in tasks if (sizes := _sizes(task))},
        "weights": weights,
    }


def other_images(there: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    """The first task most of whose files have other sizes, though their names are the same; ``None`` if there is none.

    A few may differ: an image that did not decode has been replaced.

    Args:
        there: the ``sizes`` of an earlier run's protocol.
        here: those of the present one.
    """
    for name in sorted(there.keys() & here.keys()):
        pairs = list(zip(_digits(there[name]), _digits(here[name]), strict=False))
        if 2 * sum(old != new for old, new in pairs) > len(pairs):
            return name
    return None


def _sizes(task: Any) -> str:
    """Two digits for each file that is looked at; empty if the images are not in files."""
    files: list[Any] = [task.train_set, task.test_set]
    sizes = [size for images in files if hasattr(images, "sizes") for size in images.sizes()]
    return "".join(f"{size % 255:02x}" for size in sizes)


def _digits(sizes: str) -> list[str]:
    return [sizes[place : place + 2] for place in range(0, len(sizes), 2)]
