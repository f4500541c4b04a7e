"""What was evaluated, as one hash: runs whose protocols agree may be compared."""

import hashlib
import json
from typing import Any

from datamodules.base import Task
from gift_lightning.clip import CLIP


def protocol(tasks: list[Task], clip: CLIP) -> dict[str, Any]:
    """Identity of an evaluation: ``{"id", "label_space", "fingerprints", "weights"}``.

    The id covers the tasks in order (name, data, class names, templates, test size), the label space, the test
    transform and the starting weights. Seed and method stay out: they are what one compares.

    Args:
        tasks: the tasks in order, set up.
        clip: the model with its starting weights.
    """
    label_space = "task"
    weights = clip.fingerprint()
    described = [[task.name, task.fingerprint, task.class_names, task.templates, len(task.test_set)] for task in tasks]
    canonical = json.dumps([described, label_space, repr(clip.test_transform), weights], separators=(",", ":"))
    return {
        "id": hashlib.sha256(canonical.encode()).hexdigest(),
        "label_space": label_space,
        "fingerprints": {task.name: task.fingerprint for task in tasks},
        "weights": weights,
    }
