"""ConDU: what it keeps, whom it asks, and that a run's results are those of the models it keeps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor

import gift_lightning
from callbacks import AccuracyMatrix, TaskBoundary
from callbacks.task_callback import TaskCallback
from datamodules import TaskSequence
from datamodules.mini import Counting, Flags, Shapes
from datamodules.shard import TestShard
from gift_lightning.cli import SEQUENCE_DEFAULTS
from gift_lightning.clip import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import ConDU, Finetune
from tests.e2e.conftest import CONFIG, call, read_results

MINI = CLIPSource("package:datamodules.mini.clip")
SETTINGS: dict[str, Any] = {"clip": MINI, "lr": 1e-3, "warmup_steps": 1}


def fit(method: Any, *callbacks: TaskCallback) -> list[list[float]]:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings: dict[str, Any] = {"accelerator": "cpu", "max_epochs": 3, **SEQUENCE_DEFAULTS, **quiet}
    matrix = AccuracyMatrix()
    sequence = TaskSequence([Flags(40, 30), Shapes(40, 30), Counting(40, 30)], batch_size=8, steps=4)
    Trainer(callbacks=[TaskBoundary(), matrix, *callbacks], **settings).fit(method, sequence)
    return matrix.rows


def test_the_first_expert_is_the_model_that_was_trained() -> None:
    ours, theirs = fit(ConDU(**SETTINGS)), fit(Finetune(**SETTINGS, restart=True))
    assert ours[0][0] == theirs[0][0]


@pytest.mark.parametrize("task_id", ["known", "unknown"])
def test_an_expert_sees_only_the_images_that_chose_it(task_id: Any) -> None:
    class Count(TaskCallback):
        def on_task_end(self, trainer: Any, module: Any, task: int) -> None:
            self.encoded = 0
            encode = type(module.clip).encode_image

            def counted(images: Tensor) -> Tensor:
                self.encoded += len(images)
                return encode(module.clip, images)

            module.clip.encode_image = counted

        def on_task_report(self, trainer: Any, module: Any, task: int) -> None:
            del module.clip.encode_image
            counts.append(self.encoded - 40)  # less those of the prototypes

    counts: list[int] = []
    fit(ConDU(**SETTINGS, task_id=task_id, experts=1), Count())
    if task_id == "unknown":
        assert counts == [2 * 90] * 3  # the pre-trained model and one expert, whichever, for each image
    else:
        assert counts == [30 + 2 * 60, 60 + 2 * 30, 90]


def test_what_is_kept_does_not_grow_by_models(tmp_path: Path) -> None:
    method = ConDU(**SETTINGS)
    fit(method)
    sizes = [tensor.numel() * tensor.element_size() for tensor in method.knowledge().values()]
    model = sum(weight.numel() * weight.element_size() for weight in method.initial.parameters())
    prototypes = sum(own.numel() * own.element_size() for own in method.prototypes)
    assert sum(sizes) <= model * (1 + 3 / 32) + prototypes + 64


def test_a_finished_run_predicts_with_its_experts(tmp_path: Path) -> None:
    flags = ["--model", "gift_lightning.methods.ConDU", "--model.task_id", "unknown", "--model.experts", "2"]
    flags += ["--run.root", str(tmp_path), "--run.name", "condu"]
    assert call("fit", "--config", CONFIG, *flags)[0] == 0
    results = read_results(tmp_path / "condu")
    model = gift_lightning.load(tmp_path / "condu")
    task = Flags(train_size=45, test_size=43)
    task.setup()
    shard = TestShard(task.test_set, model.clip.test_geometry, model.clip.normalize)
    with torch.no_grad():
        right = (model.evaluate(task, shard).argmax(1) == shard.labels).float().mean().item()
    assert 100 * right == pytest.approx(results["R"][-1][0])
    for file in ("last.ckpt", "knowledge.safetensors"):
        path = str(tmp_path / "condu" / "checkpoints" / file)
        status, out, err = call("test", "--config", CONFIG, *flags, "--ckpt_path", path)
        assert status == 0, err
        assert all(f"{accuracy:.2f}" in out for accuracy in results["R"][-1]), out
    status, _, err = call("export", "--run", str(tmp_path / "condu"), "--out", str(tmp_path / "model.safetensors"))
    assert status == 2 and "ended with more than one model: use it with gift_lightning.load." in err


def test_impossible_settings_are_told() -> None:
    with pytest.raises(InputError, match=r"model\.experts is 0: give at least 1"):
        ConDU(clip=MINI, experts=0)
    with pytest.raises(InputError, match=r"What the run kept is not of this ConDU: .* is missing"):
        ConDU(clip=MINI).load_knowledge({"rescalers": torch.ones(1)})
