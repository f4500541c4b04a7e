"""Lightning's own callbacks and settings of its trainer: each works, or is refused in one sentence."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch import callbacks as of_lightning
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks.spike import SpikeDetection
from lightning.pytorch.plugins import FSDPPrecision, HalfPrecision
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.connectors import accelerator_connector
from lightning.pytorch.tuner import Tuner

from callbacks import AccuracyMatrix, TaskBoundary
from callbacks.task_callback import TaskCallback
from callbacks.trainer_check import CALLBACKS, check_trainer
from datamodules import TaskSequence
from datamodules.mini import Flags
from gift_lightning import fit
from gift_lightning.errors import InputError
from gift_lightning.methods import Finetune
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS
from tests.e2e.conftest import final_weights, fit_here, read_results
from tests.e2e.test_python import CLIP, HERE, Fails, folder, l2, three_tasks

QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


class OwnStop(of_lightning.EarlyStopping):
    """A user's."""


PARTS: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"callback {type(callback).__name__}": ({"callbacks": callback}, sentence)
        for callback, sentence in [
            (of_lightning.BackboneFinetuning(), "has BackboneFinetuning, which is derived from BaseFinetuning: each"),
            (of_lightning.BatchSizeFinder(), "has BatchSizeFinder: it trains before the first .*: set batch_size"),
            (of_lightning.EarlyStopping("loss/task"), "has EarlyStopping: it compares losses of different tasks"),
            (of_lightning.EMAWeightAveraging(), "has EMAWeightAveraging, which is derived from WeightAveraging: it"),
            (of_lightning.GradientAccumulationScheduler({0: 2}), "has GradientAccumulationScheduler: all tasks divide"),
            (of_lightning.LearningRateFinder(), "has LearningRateFinder: it trains before the first .*: set lr"),
            (of_lightning.ModelPruning("l1_unstructured"), "has ModelPruning: it replaces the weights"),
            (OwnStop("loss/task"), "has OwnStop, which is derived from EarlyStopping: it compares losses"),
            (SpikeDetection(), "has SpikeDetection: the loss jumps where a task begins"),
            (of_lightning.StochasticWeightAveraging(1e-3), "it averages weights of different tasks, .*: choose the"),
            (of_lightning.WeightAveraging(), "has WeightAveraging: it averages weights of different tasks"),
        ]
    },
    **{
        f"strategy {name}": (
            {"strategy": strategy, "devices": 2},
            rf"strategy is DDPStrategy: copies of this process \({method}\) would train, .*: choose ddp",
        )
        for name, strategy, method in [
            *((name, name, "fork") for name in ("ddp_fork", "ddp_notebook")),
            ("ddp_spawn", "ddp_spawn", "spawn"),
            ("object", DDPStrategy(start_method="forkserver"), "forkserver"),
        ]
    },
    "averaged ranks": ({"strategy": DDPStrategy(model_averaging_period=2)}, "has a model_averaging_period"),
    "several nodes": ({"num_nodes": 2}, "num_nodes is 2, and this process does not know the others: start the run"),
    "half precision": ({"plugins": HalfPrecision("bf16-true")}, "precision is bf16-true: in weights of 16 bits"),
    "another precision": ({"plugins": FSDPPrecision("bf16-mixed")}, "has FSDPPrecision, which belongs to another"),
}


@pytest.mark.parametrize("case", PARTS)
def test_a_part_of_the_trainer_that_no_run_works_with_is_refused(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)  # an earlier run may have set it
    settings, sentence = PARTS[case]
    with pytest.raises(InputError, match=sentence):
        check_trainer(Trainer(**{**QUIET, **settings}))


def test_every_callback_of_lightning_is_refused_or_tried() -> None:
    """Another one of a later version has to be looked at."""
    kinds = {name for name in of_lightning.__all__ if isinstance(getattr(of_lightning, name), type)}
    refused = {name for name in kinds if {k.__name__ for k in getattr(of_lightning, name).__mro__} & CALLBACKS.keys()}
    tried = {kind.__name__ for each in observers(Path()) for kind in type(each).__mro__}
    assert kinds - refused - tried == {"RichModelSummary", "TQDMProgressBar"}  # siblings of two that are


class Writer(of_lightning.BasePredictionWriter):
    """Of predictions, of which a run makes none."""


class Progress(of_lightning.RichProgressBar):
    """Takes the place of the run's own bar."""

    started = 0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        Progress.started += 1
        super().on_train_epoch_start(trainer, pl_module)


def observers(root: Path) -> list[Any]:
    return [
        of_lightning.DeviceStatsMonitor(cpu_stats=False),
        of_lightning.LambdaCallback(on_train_end=lambda *_: (root / "ended").touch()),
        of_lightning.LearningRateMonitor(),
        of_lightning.ModelCheckpoint(every_n_train_steps=5, save_top_k=-1),
        of_lightning.ModelCheckpoint(root / "best", monitor="loss/task", save_last=True, every_n_train_steps=4),
        of_lightning.ModelSummary(),
        of_lightning.OnExceptionCheckpoint(root),
        Progress(),
        of_lightning.ThroughputMonitor(batch_size_fn=lambda batch: len(batch["task"][1])),
        of_lightning.Timer(),
        Writer("epoch"),
    ]


def assert_same_numbers(run: Path, reference: Path) -> None:
    ours, theirs = final_weights(run), final_weights(reference)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert read_results(run)["R"] == read_results(reference)["R"]


def test_callbacks_that_watch_work_and_change_no_number(reference: Path, tmp_path: Path) -> None:
    results = fit(l2(), three_tasks(), folder(tmp_path), callbacks=observers(tmp_path), **HERE)
    assert_same_numbers(results.run, reference)
    columns = (results.run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert "lr-FusedAdamW" in columns and "train/samples" in columns
    assert (tmp_path / "ended").exists() and Progress.started == 3
    saved = {int(file.stem.partition("step=")[2]) for file in (results.run / "csv").rglob("*.ckpt")}
    assert saved == {5, 10, 15, 20}
    assert (tmp_path / "best" / "last.ckpt").is_file() and len([*(tmp_path / "best").iterdir()]) == 2


def test_settings_without_a_say_in_the_numbers(
    reference: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {
        "profiler": "simple",
        "deterministic": True,
        "detect_anomaly": True,
        "inference_mode": False,
        "sync_batchnorm": True,
        "val_check_interval": 3,
        "check_val_every_n_epoch": None,
        "limit_val_batches": 1.0,
        "num_sanity_val_steps": 2,
        "limit_predict_batches": 1,
        "enable_model_summary": True,
        "enable_progress_bar": False,
        "enable_autolog_hparams": False,
        "log_every_n_steps": 0,
    }
    results = fit(l2(), three_tasks(), folder(tmp_path), **{**HERE, **settings})
    assert_same_numbers(results.run, reference)
    assert "Profiler Report" in caplog.text
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_trial_has_loggers_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    names = ("LearningRateMonitor", "ModelCheckpoint")
    watch = [f"{{class_path: lightning.pytorch.callbacks.{name}}}" for name in names]
    callbacks = ["--trainer.callbacks", f"[{', '.join(watch)}]"]
    status, _, err = fit_here(tmp_path, *callbacks, "--trainer.fast_dev_run", "true")
    assert status == 0, err
    assert not [*tmp_path.rglob("*.ckpt")] and not [*tmp_path.rglob("metrics.csv")]


# --- checkpoints of a user's ------------------------------------------------------------------------------------------


def test_a_run_goes_on_from_the_checkpoints_of_a_users_callback(reference: Path, tmp_path: Path) -> None:
    mine = tmp_path / "three_tasks" / "mine"
    every = f"{{dirpath: {mine}, every_n_train_steps: 4, save_top_k: -1, save_last: true}}"
    checkpoint = f"{{class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {every}}}"
    flags = ["--trainer.callbacks", f"[{checkpoint}]"]
    stop = ["--trainer.callbacks+=tests.e2e.kill.StopAt", "--trainer.callbacks.step=11"]
    status, _, err = fit_here(tmp_path, *flags, *stop)
    assert status == 2 and "stopped at step 11" in err
    [earlier] = mine.glob("*step=8.ckpt")
    assert fit_here(tmp_path, *flags, *stop, "--ckpt_path", str(earlier))[0] == 2
    assert fit_here(tmp_path, *flags, "--ckpt_path", "last")[0] == 0
    assert_same_numbers(
        tmp_path / "three_tasks", reference
    )  # a row of metrics.csv may be missing, which it has not yet
    assert {4, 8, 12, 16, 20, 24} == {int(file.stem.split("=")[2].split("-")[0]) for file in mine.glob("*=*")}


def test_lightning_goes_on_from_no_checkpoint_that_nobody_has_named(tmp_path: Path) -> None:
    (tmp_path / "on_exception.ckpt").touch()
    callback = of_lightning.OnExceptionCheckpoint(tmp_path)
    with pytest.raises(InputError, match=r"Lightning would go on from .*on_exception\.ckpt, which an On"):
        fit(Finetune(clip=CLIP), three_tasks(steps=1), tmp_path / "run", callbacks=callback, **HERE)


@pytest.mark.parametrize("kind", ["ModelCheckpoint", "OnExceptionCheckpoint"])
def test_the_folder_of_the_runs_checkpoints_is_its_own(kind: str, tmp_path: Path) -> None:
    callback = getattr(of_lightning, kind)(dirpath=tmp_path / "run" / "checkpoints", filename="last")
    with pytest.raises(InputError, match=f"{kind} would write into .*run/checkpoints, the folder of the run's own"):
        fit(Finetune(clip=CLIP), three_tasks(steps=1), tmp_path / "run", callbacks=callback, **HERE)


# --- a trainer of a user's own ----------------------------------------------------------------------------------------


def plain(*callbacks: Any, **settings: Any) -> Trainer:
    return Trainer(max_epochs=1, callbacks=list(callbacks), **{**SEQUENCE_DEFAULTS, **QUIET, **settings})


def one_task() -> TaskSequence:
    return TaskSequence([Flags(16, 9)], batch_size=8, steps=2)


class Monitor(TaskCallback):
    """Looks at gradients."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Nothing."""


def test_a_tuner_finds_no_rate() -> None:
    with pytest.raises(InputError, match="has LearningRateFinder: it trains before the first task"):
        Tuner(plain(TaskBoundary(), AccuracyMatrix())).lr_find(Finetune(clip=CLIP), datamodule=one_task())


def test_a_monitor_before_the_task_boundary_is_refused() -> None:
    with pytest.raises(InputError, match="Monitor looks at gradients before they are whole: give the trainer its Task"):
        plain(Monitor(), TaskBoundary(), AccuracyMatrix()).fit(Finetune(clip=CLIP), one_task())


def test_a_checkpoint_amid_accumulated_batches_is_refused(tmp_path: Path) -> None:
    class FailsAmid(Fails):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 3:
                raise ZeroDivisionError

    callbacks = [TaskBoundary(), AccuracyMatrix(), FailsAmid(0)]
    settings = {"accumulate_grad_batches": 2, "enable_checkpointing": True}
    with pytest.raises(ZeroDivisionError):
        plain(*callbacks, of_lightning.OnExceptionCheckpoint(tmp_path), **settings).fit(Finetune(clip=CLIP), one_task())
    with pytest.raises(InputError, match="written amid accumulated batches, whose gradients are in no checkpoint"):
        plain(TaskBoundary(), AccuracyMatrix(), **{**settings, "enable_checkpointing": False}).fit(
            Finetune(clip=CLIP), one_task(), ckpt_path=tmp_path / "on_exception.ckpt"
        )


# --- a notebook -------------------------------------------------------------------------------------------------------


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody types into this process."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr(accelerator_connector, "_IS_INTERACTIVE", True)


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_notebook", DDPStrategy(), DDPStrategy(start_method="spawn")])
def test_a_notebook_is_told_to_write_a_file(strategy: Any, notebook: None, tmp_path: Path) -> None:
    settings = {**HERE, "devices": 2, "strategy": strategy}
    with pytest.raises(InputError, match=r"^A notebook is one process, .*: write the run to a file and start it"):
        fit(Finetune(clip=CLIP), three_tasks(steps=1), tmp_path / "run", **settings)


class TwoDevices(CPUAccelerator):
    """As a machine with two GPUs."""

    @staticmethod
    def auto_device_count() -> int:
        return 2


def test_a_notebook_is_told_of_devices_that_it_leaves_idle(
    notebook: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sequence = TaskSequence([Flags(16, 9)], batch_size=8, steps=1)
    fit(Finetune(clip=CLIP), sequence, tmp_path / "run", accelerator=TwoDevices(), devices=1)
    assert "note: a notebook is one process, which uses 1 of 2 devices" in capsys.readouterr().err
