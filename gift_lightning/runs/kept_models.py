"""The models that a finished run keeps, and what each of them says to images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from datamodules.prediction import NamedClasses
from gift_lightning.errors import InputError
from gift_lightning.methods import ContinualCLIP
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.load import load, load_start, put_weights

PRETRAINED = "pre-trained"
"""Name of the model before the first task."""


class KeptModels:
    """The pre-trained model of a finished run, and the models after its tasks as far as the run keeps them.

    Those of a method with one CLIP are kept after each task. A method with more than a CLIP keeps its state after the
    last task alone. Each model predicts as its method does, by ``evaluate``; two of them are in memory at a time.

    Args:
        run: the folder of the run.

    Attributes:
        method: name of its class.
        names: of the models, in the order of learning: ``PRETRAINED``, and the tasks after which the others were kept.
        notes: sentences on models that the run does not keep, and on the way in which its method predicts.

    Raises:
        InputError: see ``gift_lightning.load``.
    """

    def __init__(self, run: str | Path) -> None:
        folder = RunFolder.at(run)
        self._start, self._learned = load_start(run), load(run)
        results = folder.finished_results()
        self.method: str = results["method"]
        self.names, self.notes, self._files = [PRETRAINED], [], list[Path]()
        tasks: list[str] = results["tasks"]
        if not results["learns"]:
            self.notes = [f"{self.method} learns nothing: it has the pre-trained model alone."]
        elif folder.knowledge.is_file():
            self.names.append(tasks[-1])
            self.notes = [
                f"{self.method} keeps its state after the last task alone (checkpoints/{folder.knowledge.name}). It"
                " predicts here as for an image whose task is not given."
            ]
        else:
            files = {task: folder.task_weights(index) for index, task in enumerate(tasks)}
            kept = {task: file for task, file in files.items() if file.is_file()}
            self.names, self._files = [PRETRAINED, *kept], [*kept.values()]
            missing = [f"{file.name} (after {task})" for task, file in files.items() if task not in kept]
            self.notes = [f"Missing in {folder.checkpoints}: {', '.join(missing)}."] if missing else []

    def predict(self, images: Sequence[Image.Image], class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Probabilities ``[models, n, C]`` of classes for PIL images, see ``ContinualCLIP.predict``.

        Raises:
            InputError: also if a prompt is longer than the text that the CLIP reads, or the weights after a task cannot
                be read.
        """
        prompts = [prompt for each in NamedClasses(class_names, templates).class_prompts() for prompt in each]
        too_long = self._start.clip.first_too_long(prompts)
        if too_long is not None:
            raise InputError(
                f"The prompt '{too_long}' is longer than the text that the CLIP reads: shorten the class name or the"
                " template."
            )
        return torch.stack([model.predict(images, class_names, templates) for model in self._models()])

    def _models(self) -> Iterator[ContinualCLIP]:
        """One model after the other; those after the tasks are one object, each time with other weights."""
        yield self._start
        for file in self._files:
            put_weights(self._learned.clip, file)
            yield self._learned
        if len(self.names) > 1 and not self._files:
            yield self._learned
