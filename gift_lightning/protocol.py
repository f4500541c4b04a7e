"""What was evaluated, as one hash: runs whose protocols agree may be compared."""

import hashlib
import json
from typing import Any

from gift_lightning.clip import CLIP
from gift_lightning.describe import describe
from gift_lightning.errors import InputError


def protocol(sequence: Any, clip: CLIP) -> dict[str, Any]:
    """Identity of an evaluation: ``{"id", "label_space", "fingerprints", "weights"}``.

    The id covers the tasks in order (name, data, class names, templates, test size), the label space, the test
    transform and the starting weights. Seed and method stay out: they are what one compares.

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
        "weights": weights,
    }
