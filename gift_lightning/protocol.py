"""What was evaluated, as one hash: runs whose protocols agree may be compared."""

import hashlib
import json
from typing import Any

from gift_lightning.clip import CLIP


def protocol(sequence: Any, clip: CLIP) -> dict[str, Any]:
    """Identity of an evaluation: ``{"id", "label_space", "fingerprints", "weights"}``.

    The id covers the tasks in order (name, data, class names, templates, test size), the label space, the test
    transform and the starting weights. Seed and method stay out: they are what one compares.

    Args:
        sequence: the ``TaskSequence``, set up.
        clip: the model with its starting weights.
    """
    label_space, tasks = sequence.label_space, sequence.tasks
    weights = clip.fingerprint()
    prints = {task.name: task.fingerprint for task in tasks}
    for task in tasks:
        if shots := sequence.shots_of(task):
            prints[task.name] += f", {shots} shots"
    described = [[task.name, prints[task.name], task.class_names, task.templates, len(task.test_set)] for task in tasks]
    canonical = json.dumps([described, label_space, repr(clip.test_transform), weights], separators=(",", ":"))
    return {
        "id": hashlib.sha256(canonical.encode()).hexdigest(),
        "label_space": label_space,
        "fingerprints": prints,
        "weights": weights,
    }
