"""The protocol of an evaluation as one hash: runs with equal protocols may be compared."""

import hashlib
import json
from collections.abc import Mapping, Sequence, Sized
from typing import Any, Protocol

from gift_lightning.clip.describe import describe
from gift_lightning.clip.model import CLIP
from gift_lightning.errors import InputError

FILES_LOOKED_AT = 256
"""Number of files of a set whose size is recorded, evenly spread over a larger set: at most a second's work."""

_Sizes = dict[str, str]  # of the training, test and validation images, two digits for each file


class EvaluatedTask(Protocol):
    """The attributes of a ``Task`` that the protocol describes.

    Attributes:
        name, class_names, templates, fingerprint: see ``Task``.
        test_set: of which the protocol has the number of images, and the sizes of their files.
    """

    name: str
    class_names: list[str]
    templates: list[str]

    @property
    def fingerprint(self) -> str: ...

    @property
    def test_set(self) -> Sized: ...


class TrainedOn(Protocol):
    """The methods of ``TrainingImages`` that tell the images of a run."""

    def shots_of(self, task: Any) -> int | None:
        """Training images of each class of one of the tasks; ``None`` for all."""
        ...

    def words_of(self, task: Any) -> str:
        """Where the validation images of one of the tasks are from; empty without any."""
        ...

    def to_train(self, task: int) -> Sized:
        """The training images of a task, by its number."""
        ...

    def to_validate(self, task: int) -> Sized | None:
        """The images held out of a task, by its number; ``None`` without any."""
        ...


class EvaluatedSequence(Protocol):
    """The attributes of a ``TaskSequence`` that the protocol describes.

    Attributes:
        tasks: in the order of learning.
        label_space: ``task``, ``seen`` or ``all``.
    """

    @property
    def tasks(self) -> Sequence[EvaluatedTask]: ...

    @property
    def label_space(self) -> str: ...

    @property
    def training_images(self) -> TrainedOn:
        """The images of its tasks in a run."""
        ...


def protocol(sequence: EvaluatedSequence, clip: CLIP) -> dict[str, Any]:
    """Identity of an evaluation: ``{"id", "label_space", "fingerprints", "shots", "file_sizes", "weights"}``.

    The id covers the tasks in order (name, data, class names, templates, test size), the label space, the test
    transform and the starting weights; not seed and method, which runs of one protocol compare. The fingerprints cover
    the lists of images; ``file_sizes`` shows other images under the same names, see ``first_changed_task``. ``shots``
    has the training images of each class of the few-shot tasks; the id covers it, and the share of images held out for
    validation, through the fingerprints.

    Args:
        sequence: after ``setup``.
        clip: the model with its starting weights.

    Raises:
        InputError: the test transform cannot be described, see ``describe``.
    """
    label_space, tasks, images = sequence.label_space, sequence.tasks, sequence.training_images
    weights = clip.fingerprint()
    shots = {task.name: count for task in tasks if (count := images.shots_of(task))}
    prints = {task.name: task.fingerprint for task in tasks}
    prints |= {task.name: f"{prints[task.name]}, {words}" for task in tasks if (words := images.words_of(task))}
    prints |= {name: f"{prints[name]}, {count} shots" for name, count in shots.items()}
    described = [[task.name, prints[task.name], task.class_names, task.templates, len(task.test_set)] for task in tasks]
    try:
        transform = describe(clip.test_transform)
    except InputError as error:
        raise InputError(
            f"The CLIP's test transform cannot be described, so that runs could not be compared: {error}"
            " Let it hold numbers, texts, tensors, functions and other transforms alone."
        ) from error
    canonical = json.dumps([described, label_space, transform, weights], separators=(",", ":"))
    return {
        "id": hashlib.sha256(canonical.encode()).hexdigest(),
        "label_space": label_space,
        "fingerprints": prints,
        "shots": shots,
        "file_sizes": {
            task.name: sizes
            for number, task in enumerate(tasks)
            if (sizes := _sizes(images.to_train(number), task.test_set, images.to_validate(number)))
        },
        "weights": weights,
    }


def first_changed_task(before: Mapping[str, _Sizes], now: Mapping[str, _Sizes]) -> str | None:
    """The first task with other images under the same names, by the sizes of their files; ``None`` without one.

    One file of its training and one of its test images may differ, or 5 % of them: replaced images that did not decode.

    Args:
        before: the ``file_sizes`` of an earlier run's protocol.
        now: those of the present one.
    """
    for name in sorted(before.keys() & now.keys()):
        if any(_is_changed(before[name].get(part, ""), now[name][part]) for part in now[name]):
            return name
    return None


def _is_changed(before: str, now: str) -> bool:
    if len(before) != len(now):
        return False  # an earlier version recorded other files
    pairs = list(zip(_digits(before), _digits(now), strict=True))
    return sum(old != new for old, new in pairs) > max(1, 0.05 * len(pairs))


def _sizes(train_set: Sized, test_set: Sized, validation_set: Sized | None) -> _Sizes:
    """Two hexadecimal digits for each recorded file of a set; empty for images in memory."""
    sizes = {}
    for part, images in {"train": train_set, "test": test_set, "validation": validation_set}.items():
        if images is not None and hasattr(images, "sizes"):
            chosen = range(0, len(images), -(-len(images) // FILES_LOOKED_AT) or 1)
            sizes[part] = "".join(f"{size % 255:02x}" for size in images.sizes(chosen))
    return sizes


def _digits(sizes: str) -> list[str]:
    return [sizes[place : place + 2] for place in range(0, len(sizes), 2)]
