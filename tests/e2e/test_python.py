"""Runs from Python, as in a notebook: one process, the same objects again, the folder of the command line."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.plugins import AsyncCheckpointIO
from lightning.pytorch.strategies import DDPStrategy

import gift_lightning
from callbacks import AccuracyMatrix, TaskBoundary
from callbacks.task_callback import TaskCallback
from datamodules import SyntheticReplay
from datamodules.mini import Counting, Flags, GeneralReference, OracleGenerator, Shapes
from gift_lightning import CLIPSource, Results, TaskSequence, fit
from gift_lightning.errors import InputError
from gift_lightning.methods import GIFT, L2, ConDU, ContinualCLIP, Finetune, MoEAdapter, WiSEFT
from gift_lightning.numerics.low_rank import LoRA
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS
from tests.e2e.conftest import CONFIG, assert_same_run, call, final_weights, fit_here, read_results
from tests.e2e.kill import KillAt, StopAt

CLIP = CLIPSource("package:datamodules.mini.clip")
RATES = {"Flags": 1e-3, "Shapes": 5e-4, "Counting": 2e-3}
HERE = {"accelerator": "cpu", "devices": 1, "log_every_n_steps": 2}
EARLIER = Path(__file__).parents[1] / "earlier" / "runs"


def l2() -> L2:
    """The method of ``three_tasks.yaml``."""
    return L2(clip=CLIP, lr=RATES, warmup_steps=3, l2=0.1)


def three_tasks(**settings: Any) -> TaskSequence:
    tasks = [Flags(train_size=45, test_size=43), Shapes(train_size=80, test_size=31), Counting(61, test_size=25)]
    return TaskSequence(tasks, batch_size=8, **{"steps": "epoch", "seed": 3, **settings})


def folder(root: Path) -> RunFolder:
    return RunFolder(str(root), "three_tasks", checkpoint_every=3)


class Fails(TaskCallback):
    """Raises an exception that is no bad input before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            raise ZeroDivisionError


def test_importing_the_package_is_instant() -> None:
    code = (
        "import sys, gift_lightning; dir(gift_lightning).index('fit'); print({'torch', 'lightning'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        gift_lightning.fitt  # noqa: B018


def test_a_run_is_that_of_the_command_line(reference: Path, tmp_path: Path) -> None:
    results = fit(l2(), three_tasks(), run=folder(tmp_path), **HERE)
    assert_same_run(results.run, reference)
    config = (results.run / "config.yaml").read_text()
    assert config.replace(str(tmp_path), str(reference.parent)) == (reference / "config.yaml").read_text()
    recorded = read_results(reference)
    assert recorded["R"] == results.R and results.tasks == ["Flags", "Shapes", "Counting"]
    assert [results.transfer, results.avg, results.last] == [
        recorded["metrics"][k] for k in ("transfer", "avg", "last")
    ]
    assert "Counting" in str(results) and f"Last {results.last:.1f}" in str(results)


def test_a_session_that_is_interrupted_twice_ends_with_the_same_bits(reference: Path, tmp_path: Path) -> None:
    method, sequence, run = l2(), three_tasks(), folder(tmp_path)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    with pytest.raises(ZeroDivisionError):
        fit(method, sequence, run=run, callbacks=[Fails(step=8)], **HERE)
    with pytest.raises(KeyboardInterrupt):
        fit(method, sequence, run=run, callbacks=KillAt("step", 17, int(signal.SIGINT)), **HERE)
    with pytest.raises(InputError, match=r"stopped at step 20, after 2 of 3 tasks: call fit again to go on\."):
        fit(method, sequence, run=run, callbacks=[StopAt(20)], **HERE)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)]
    results = fit(method, sequence, run=run, **HERE)
    assert_same_run(results.run, reference)

    again = l2()
    assert fit(again, three_tasks(), run=results.run, **HERE) == Results.of(
        read_results(results.run), results.run, False
    )
    restored = L2.load_from_checkpoint(results.run / "checkpoints" / "last.ckpt")
    task = Flags(4, 8)
    task.setup()
    images = [task.test_set[index][0] for index in range(8)]
    expected = gift_lightning.load(results.run).predict(images, task.class_names)
    for model in (method, again, restored):
        assert torch.equal(model.predict(images, task.class_names), expected)


def test_other_settings_in_the_same_process_are_another_run(tmp_path: Path) -> None:
    method, sequence = l2(), three_tasks(steps=2)
    first = fit(method, sequence, run=tmp_path / "first", **HERE)
    second = fit(method, three_tasks(steps=2, seed=4), run=tmp_path / "second", **HERE)
    third = fit(method, sequence, run=str(tmp_path / "third"), **HERE)
    weights, expected, other = (final_weights(results.run) for results in (third, first, second))
    assert not all(torch.equal(other[name], expected[name]) for name in expected)
    assert third.R == first.R and all(torch.equal(weights[name], expected[name]) for name in expected)
    with pytest.raises(
        InputError, match=r"holds a run with another lr\.Flags \(0\.001 there, 0\.1 here\): choose another run"
    ):
        fit(L2(clip=CLIP, lr={**RATES, "Flags": 0.1}, warmup_steps=3, l2=0.1), sequence, run=tmp_path / "first", **HERE)


def test_a_complete_run_leaves_nothing_in_the_next_one(tmp_path: Path) -> None:
    first = fit(l2(), three_tasks(steps=2), run=tmp_path / "first", **HERE)
    method, sequence = l2(), three_tasks(steps=2)
    for _ in range(2):
        results = fit(method, sequence, run=first.run, **HERE)
        assert results.R == first.R and not results.is_new
    second = fit(method, sequence, run=tmp_path / "second", **HERE)
    assert second.R == first.R and second.record["zero_shot"] == first.record["zero_shot"]


def test_a_method_of_a_checkpoint_begins_a_run_as_its_config_says(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"lr": 1e-3, "warmup_steps": 1, "alpha": 0.5, "start": "initial"}
    results = fit(WiSEFT(clip=CLIP, **arguments), three_tasks(steps=3), run=tmp_path / "run", **HERE)
    checkpoint = results.run / "checkpoints" / "last.ckpt"
    made = WiSEFT(clip=CLIPSource(CLIP.name, weights=str(checkpoint)), **arguments)
    methods = {"restored": WiSEFT.load_from_checkpoint(checkpoint), "made": made}
    runs = [fit(method, three_tasks(steps=3), run=tmp_path / name, **HERE).run for name, method in methods.items()]
    weights, expected = map(final_weights, runs)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_run_leaves_the_random_generators_of_the_process_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    monkeypatch.setenv("PL_SEED_WORKERS", "0")
    run: dict[str, Any] = {"method": l2(), "sequence": three_tasks(steps=1), "run": tmp_path / "run", **HERE}

    def numbers() -> list[float]:
        return [random.random(), float(np.random.random()), float(torch.rand(()))]

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(7)
    expected = [numbers(), numbers()]
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(7)
    with pytest.raises(ZeroDivisionError):
        fit(**run, callbacks=[Fails(step=1)])
    between = numbers()
    fit(**run)
    assert [between, numbers()] == expected
    assert "PL_GLOBAL_SEED" not in os.environ and os.environ["PL_SEED_WORKERS"] == "0"


def test_a_run_begun_in_python_goes_on_from_the_command_line(reference: Path, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fit(l2(), three_tasks(), run=folder(tmp_path), callbacks=[Fails(step=8)], **HERE)
    run = tmp_path / "three_tasks"
    status, _, err = call("fit", "--config", str(run / "config.yaml"), "--ckpt_path", "last")
    assert status == 0, err
    assert_same_run(run, reference)
    status, out, err = call("fit", "--config", CONFIG, "--run.root", str(tmp_path))
    assert status == 0 and "This run is complete" in out, err
    tested = ["test", "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]
    for command in (
        tested,
        ["report", str(run)],
        ["export", "--run", str(run), "--out", str(tmp_path / "out.safetensors")],
    ):
        assert call(*command)[0] == 0


def test_a_run_begun_from_the_command_line_goes_on_in_python(reference: Path, tmp_path: Path) -> None:
    stop = ["--trainer.callbacks+=tests.e2e.kill.StopAt", "--trainer.callbacks.step=8"]
    status, _, err = fit_here(tmp_path, *stop)
    assert status == 2 and "go on with --ckpt_path last" in err
    assert_same_run(fit(l2(), three_tasks(), run=folder(tmp_path), **HERE).run, reference)


def gift(root: Path) -> tuple[GIFT, TaskSequence]:
    replay = SyntheticReplay(
        folder=str(root / "replay"),
        generator=OracleGenerator(batch_size=4),
        images_per_task=8,
        batch_size=8,
        initial_prompts=["a photo of a star", "a photo of a house"],
    )
    return GIFT(clip=CLIP, lr=1e-3, warmup_steps=1), three_tasks(steps=3, replay=replay)


def test_what_a_run_replays_is_made_anew_with_its_objects(tmp_path: Path) -> None:
    expected = fit(*gift(tmp_path), run=tmp_path / "whole", **HERE)
    method, sequence = gift(tmp_path)
    with pytest.raises(ZeroDivisionError):
        fit(method, sequence, run=tmp_path / "stopped", callbacks=[Fails(step=4)], **HERE)
    results = fit(method, sequence, run=tmp_path / "stopped", **HERE)
    weights, theirs = final_weights(results.run), final_weights(expected.run)
    assert results.R == expected.R and all(torch.equal(weights[name], theirs[name]) for name in theirs)
    config = RunFolder.at(results.run).read_config()
    generator = config["data"]["replay"]["init_args"]["generator"]
    assert generator == {"class_path": "datamodules.mini.OracleGenerator", "init_args": {"batch_size": 4}}


def test_a_replay_of_two_sequences_serves_each_in_its_run(tmp_path: Path) -> None:
    expected = fit(*gift(tmp_path / "expected"), run=tmp_path / "expected" / "run", **HERE)
    method, first = gift(tmp_path / "shared")
    second = three_tasks(steps=3, seed=4, replay=first.replay)
    with pytest.raises(InputError, match="The replay of this TaskSequence was given to another one: make one for each"):
        first.setup()
    results = fit(method, first, run=tmp_path / "shared" / "run", **HERE)
    weights, theirs = final_weights(results.run), final_weights(expected.run)
    assert results.R == expected.R and all(torch.equal(weights[name], theirs[name]) for name in theirs)
    with pytest.raises(InputError, match="The replay of this TaskSequence"):
        second.setup()


@pytest.mark.parametrize("kind", [ConDU, MoEAdapter])
def test_what_a_method_learned_beside_the_clip_is_in_its_checkpoint(kind: type[ContinualCLIP], tmp_path: Path) -> None:
    small = {"experts": 4, "width": 8, "selector_steps": 9, "selector_width": 8, "threshold": 0.02}
    arguments: dict[str, Any] = {"lora": LoRA(rank=2)} if kind is ConDU else small
    method = kind(clip=CLIP, lr=1e-2, warmup_steps=1, **arguments)
    results = fit(method, three_tasks(steps=2), run=tmp_path / "run", **HERE)
    task = Flags(45, 43)
    task.setup()
    images = [task.test_set[index][0] for index in range(8)]
    expected = gift_lightning.load(results.run).predict(images, task.class_names)
    restored = kind.load_from_checkpoint(results.run / "checkpoints" / "last.ckpt")
    assert type(restored) is kind and not restored.training
    again = kind(clip=CLIP, lr=1e-2, warmup_steps=1, **arguments)
    fit(again, three_tasks(steps=2), run=results.run, **HERE)
    for model in (method, restored, again):
        torch.testing.assert_close(model.predict(images, task.class_names), expected)
    assert fit(restored, three_tasks(steps=2), run=tmp_path / "anew", **HERE).R == results.R


def test_a_checkpoint_of_an_earlier_version_is_loaded() -> None:
    path = EARLIER / "unfinished_gift" / "checkpoints" / "last.ckpt"
    method, saved = GIFT.load_from_checkpoint(path), torch.load(path, weights_only=True)["state_dict"]
    state = method.state_dict()
    assert state.keys() == saved.keys() and all(torch.equal(state[name], saved[name]) for name in saved)
    assert ContinualCLIP.load_from_checkpoint(path, eval_batch_size=3).eval_batch_size == 3


def test_a_checkpoint_of_an_earlier_version_is_converted_without_strictness_too() -> None:
    path = EARLIER / "unfinished_moeadapter" / "checkpoints" / "last.ckpt"
    state, expected = (MoEAdapter.load_from_checkpoint(path, strict=strict).state_dict() for strict in (False, True))
    assert state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in expected)


class MySequence(TaskSequence):
    """Of a user's."""


def test_a_checkpoint_of_a_trainer_with_a_sequence_of_a_user_is_loaded(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"experts": 4, "width": 8, "selector_steps": 3, "reference_steps": 3}
    method = MoEAdapter(clip=CLIP, lr=1e-2, warmup_steps=1, **arguments)
    tasks = MySequence([Flags(9, 8)], steps=1, batch_size=8, replay=GeneralReference(16, batch_size=8))
    options: dict[str, Any] = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, **HERE}
    trainer = Trainer(callbacks=[TaskBoundary(), AccuracyMatrix()], **SEQUENCE_DEFAULTS, **options)
    trainer.fit(method, tasks)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    restored, expected = MoEAdapter.load_from_checkpoint(tmp_path / "last.ckpt", clip=CLIP, **arguments), method
    state = restored.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.state_dict().items())
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    del checkpoint["callbacks"]["TaskBoundary"]["stream"]["steps"]
    torch.save(checkpoint, tmp_path / "broken.ckpt")
    with pytest.raises(InputError, match=r"broken\.ckpt does not say how far its run was: give the last\.ckpt"):
        MoEAdapter.load_from_checkpoint(tmp_path / "broken.ckpt", clip=CLIP, **arguments)


class MyGIFT(GIFT):
    """A method of another name."""


def test_a_checkpoint_of_another_method_is_refused(tmp_path: Path) -> None:
    path = EARLIER / "unfinished_gift" / "checkpoints" / "last.ckpt"
    for kind in (L2, MyGIFT):
        with pytest.raises(
            InputError, match=rf"is of a run of GIFT, and this is {kind.__name__}: call GIFT\.load_from"
        ):
            kind.load_from_checkpoint(path)
    state = torch.load(path, weights_only=True)
    del state["state_dict"]["teacher.module.model.logit_scale"]
    torch.save(state, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="logit_scale"):
        GIFT.load_from_checkpoint(tmp_path / "last.ckpt")
    GIFT.load_from_checkpoint(tmp_path / "last.ckpt", strict=False)


class Mine(Finetune):
    """Written in a hurry, without types."""

    def __init__(self, colour, **kwargs):  # type: ignore[no-untyped-def]
        super().__init__(**kwargs)
        self.colour = colour


def test_a_class_of_a_notebook_runs_and_is_missed_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = sys.modules["__main__"]
    kind = Mine
    kind.__module__ = "__main__"
    monkeypatch.setattr(main, "Mine", kind, raising=False)
    results = fit(kind("blue", clip=CLIP, warmup_steps=1), three_tasks(steps=1), run=tmp_path / "run", **HERE)
    assert gift_lightning.load(results.run).colour == "blue"
    monkeypatch.delattr(main, "Mine")
    with pytest.raises(InputError, match="the class Mine was defined in a notebook or script: define it here too"):
        gift_lightning.load(results.run)
    kind.__module__ = __name__  # its code goes into a module
    assert type(kind.load_from_checkpoint(results.run / "checkpoints" / "last.ckpt")) is kind


class Watching(Callback):
    """Of a user's: no config can hold its function."""

    def __init__(self, watch: Any) -> None:
        self.on_train_end = lambda trainer, module: watch()


def test_callbacks_watch_a_run_and_are_no_part_of_its_config(tmp_path: Path) -> None:
    calls: list[int] = []
    results = fit(
        Finetune(clip=CLIP), three_tasks(steps=1), tmp_path / "run", callbacks=Watching(lambda: calls.append(1)), **HERE
    )
    assert calls == [1] and "callbacks:" not in (results.run / "config.yaml").read_text()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "trainer's name": ({"acelerator": "cpu"}, r"fit has no argument acelerator, .* \(did you mean 'accelerator'\?\)\."),
    "epochs": ({"max_epochs": 3}, r"fit sets max_epochs itself, one epoch for each task: remove it\."),
    "folder": ({"default_root_dir": "x"}, r"fit sets default_root_dir itself, by the folder of the run"),
    "type": ({"accumulate_grad_batches": "two"}, r"^accumulate_grad_batches is 'two', but must be of type int\."),
    "precision": ({"precision": "16-true"}, r"^precision is 16-true: in weights of 16 bits"),
    "strategy": ({"strategy": "fsdp"}, r"^strategy is fsdp: methods copy and compare whole weights"),
    "copies": (
        {"strategy": DDPStrategy(start_method="fork"), "devices": 2, "accelerator": "cpu"},
        r"^strategy is DDPStrategy: copies of this process \(fork\) would train, .*: choose ddp, which starts",
    ),
    "checkpoints": ({"plugins": AsyncCheckpointIO()}, r"^plugins has AsyncCheckpointIO, and a run its own"),
    "callback": ({"callbacks": StochasticWeightAveraging(1e-3)}, r"^callbacks has StochasticWeightAveraging: it av"),
    "steps": ({"max_steps": 7}, r"^max_epochs and max_steps belong to the sequence, .*: set tasks and steps instead\."),
    "no text": ({"precision": object()}, r"fit: precision is of type object, which no config can hold"),
    "no folder": ({"run": ""}, r"run is '': name a folder for this run alone"),
    "no method": ({"method": 7}, r"fit needs a method, such as GIFT\(\.\.\.\), and int is none"),
    "no sequence": ({"sequence": Flags()}, r"fit needs a TaskSequence of tasks, and Flags is none"),
    "own sequence": ({"sequence": MySequence([Flags()])}, r"takes a TaskSequence itself, .* MySequence is a subclass"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_named_by_its_argument(case: str, tmp_path: Path) -> None:
    settings, sentence = WRONG[case]
    with pytest.raises(ValueError, match=sentence):
        fit(**{"method": l2(), "sequence": three_tasks(), "run": tmp_path / "run", **settings})
    assert not (tmp_path / "run" / "results.json").exists()


NUMBERS: dict[str, tuple[Callable[[], ContinualCLIP], dict[str, Any], str]] = {
    "rate": (lambda: Finetune(clip=CLIP, lr=float("nan")), {}, r"^lr is nan: give a finite number\."),
    "rate of a task": (lambda: Finetune(clip=CLIP, lr={**RATES, "Flags": float("inf")}), {}, r"^lr\.Flags is inf: "),
    "seed": (l2, {"seed": -1}, r"^seed is -1: give a whole number from 0 to 4294967295\."),
    "no seed": (l2, {"seed": "one"}, r"^seed is 'one', but must be of type int\."),
    "long": (l2, {"steps": 2**63}, r"^steps is of more than 63 bits: give a smaller number\."),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_a_number_that_cannot_be_used_is_named_by_its_argument(case: str, tmp_path: Path) -> None:
    method, settings, sentence = NUMBERS[case]
    with pytest.raises(InputError, match=sentence):
        fit(method(), three_tasks(**settings), run=tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shuffle": "no"}, "shuffle is the text 'no', which a config reads as False: give a value of its type"),
        ({"steps": "3"}, "steps is the text '3', which a config reads as 3: give a value of its type"),
    ],
)
def test_a_text_that_a_config_reads_otherwise_is_refused(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """The run would train by one value and record another."""
    with pytest.raises(InputError, match=message):
        fit(
            Finetune(clip=CLIPSource("package:datamodules.mini.clip")),
            TaskSequence([Flags(8, 8)], **arguments),
            tmp_path / "run",
        )


def test_a_class_in_the_place_of_an_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Finetune is a class: give fit an object of it, Finetune\(\.\.\.\)"):
        fit(Finetune, TaskSequence([Flags(8, 8)]), tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="did you mean 'max_epochs'"):
        fit(
            Finetune(clip=CLIPSource("package:datamodules.mini.clip")),
            TaskSequence([Flags(8, 8)]),
            tmp_path / "run",
            max_epoch=3,
        )
