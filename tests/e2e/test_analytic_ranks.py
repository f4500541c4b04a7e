"""A method that learns without steps, on two ranks and after an exception."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import OnExceptionCheckpoint

from gift_lightning.errors import InputError
from tests.callbacks.test_task_boundary import MINI, sequence_of, three_tasks, trainer_with
from tests.e2e.conftest import CONFIG, final_weights, read_results, run_command, run_on_ranks
from tests.e2e.outside.ridge import Ridge


class FrozenRidge(Ridge):
    """Ridge regression on a CLIP that is frozen, so that DDP has nothing to train."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clip.requires_grad_(False)


def test_two_ranks_learn_the_same_as_one(tmp_path: Path) -> None:
    file = tmp_path / "ridge.yaml"
    settings = "{clip: {name: 'package:datamodules.mini.clip'}, ridge: 0.5}"
    file.write_text(f"model: {{class_path: tests.e2e.test_analytic_ranks.FrozenRidge, init_args: {settings}}}\n")
    command = ["fit", "--config", CONFIG, "--config", str(file), "--trainer.precision", "64-true", "--run.root"]
    log = tmp_path / "log.txt"
    assert run_command([*command, str(tmp_path / "one")], log) == 0, log.read_text()
    assert run_on_ranks(2, [*command, str(tmp_path / "two")], log) == 0, log.read_text()
    one, two = tmp_path / "one" / "three_tasks", tmp_path / "two" / "three_tasks"
    assert read_results(one)["R"] == read_results(two)["R"]
    for name, tensor in final_weights(one).items():
        assert (final_weights(two)[name] - tensor).abs().max() <= 1e-12 * tensor.abs().max(), name


def test_a_checkpoint_amid_the_end_of_a_task_is_refused(tmp_path: Path) -> None:
    """Resumed, the task would be learned twice."""

    class Fails(Ridge):
        def on_task_end(self, task: int) -> None:
            super().on_task_end(task)
            raise OSError("no space left")

    callback = OnExceptionCheckpoint(tmp_path)
    with pytest.raises(OSError, match="no space left"):
        trainer_with(callback, enable_checkpointing=True, default_root_dir=tmp_path).fit(
            Fails(clip=MINI), sequence_of(three_tasks())
        )
    (file,) = tmp_path.glob("on_exception*.ckpt")
    with pytest.raises(InputError, match="written while a task began or ended, as after an exception"):
        trainer_with().fit(Fails(clip=MINI), sequence_of(three_tasks()), ckpt_path=file)
