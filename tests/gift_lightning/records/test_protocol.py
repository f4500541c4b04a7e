"""The identity of an evaluation on tasks of which few images are taken."""

import hashlib
import json

from datamodules import TaskSequence
from datamodules.mini import Flags, Shapes
from gift_lightning.clip.describe import describe
from gift_lightning.clip.source import CLIPSource
from gift_lightning.records.protocol import protocol


def test_few_shots_are_a_field_beside_the_id_that_they_always_had() -> None:
    sequence = TaskSequence([Flags(60, 20, shots=1), Shapes(60, 20)], shots=3)
    sequence.setup()
    clip = CLIPSource("package:datamodules.mini.clip").load()
    made = protocol(sequence, clip)
    assert made["shots"] == {"Flags": 1, "Shapes": 3}
    flags, shapes = sequence.tasks
    described = [
        ["Flags", f"{flags.fingerprint}, 1 shots", flags.class_names, flags.templates, 20],
        ["Shapes", f"{shapes.fingerprint}, 3 shots", shapes.class_names, shapes.templates, 20],
    ]
    whole = [described, "task", describe(clip.test_transform), clip.fingerprint()]
    assert made["id"] == hashlib.sha256(json.dumps(whole, separators=(",", ":")).encode()).hexdigest()


def test_tasks_with_all_their_images_have_no_shots() -> None:
    sequence = TaskSequence([Flags(60, 20), Shapes(60, 20, shots=2)])
    sequence.setup()
    assert protocol(sequence, CLIPSource("package:datamodules.mini.clip").load())["shots"] == {"Shapes": 2}
