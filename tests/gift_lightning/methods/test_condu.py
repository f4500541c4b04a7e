"""ConDU: what it keeps, whom it asks, and that a run's results are those of the models it keeps."""

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from safetensors.torch import load_file, save_file
from torch import Tensor, is_tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gift_lightning
from callbacks import AccuracyMatrix, TaskBoundary
from callbacks.task_callback import TaskCallback
from datamodules import TaskSequence
from datamodules.mini import Counting, Flags, Shapes
from datamodules.shard import TestShard
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import ConDU, Finetune
from gift_lightning.numerics.fusion import Decoupled, delta_of, unify, write_expert_
from gift_lightning.numerics.low_rank import LoRA
from gift_lightning.numerics.prototypes import aggregate, class_prototypes, task_similarities
from gift_lightning.runs.fit import SEQUENCE_DEFAULTS
from tests.e2e.conftest import CONFIG, assert_same_run, call, kill_at, read_results, run_command

MINI = CLIPSource("package:datamodules.mini.clip")
SETTINGS: dict[str, Any] = {"clip": MINI, "lr": 1e-3, "warmup_steps": 1}


def fit(method: Any, *callbacks: TaskCallback, **data: Any) -> list[list[float]]:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings: dict[str, Any] = {"accelerator": "cpu", "max_epochs": 3, **SEQUENCE_DEFAULTS, **quiet}
    matrix = AccuracyMatrix()
    sequence = TaskSequence([Flags(40, 30), Shapes(40, 30), Counting(40, 30)], batch_size=8, steps=4, **data)
    Trainer(callbacks=[TaskBoundary(), matrix, *callbacks], **settings).fit(method, sequence)
    return matrix.rows


def test_the_first_expert_is_the_model_that_was_trained() -> None:
    ours, theirs = fit(ConDU(**SETTINGS)), fit(Finetune(**SETTINGS, restart=True))
    assert ours[0][0] == theirs[0][0]


@pytest.mark.parametrize("task_id", ["known", "unknown"])
def test_an_expert_sees_only_the_images_that_chose_it(task_id: Any) -> None:
    class Count(TaskCallback):
        def on_sequence_start(self, trainer: Any, module: Any) -> None:
            counts.append(self.encoded)

        def setup(self, trainer: Any, module: Any, stage: str) -> None:
            self.encoded, encode = 0, module.clip.encode_image

            def counted(images: Tensor) -> Tensor:
                self.encoded += len(images)
                return encode(images)

            module.clip.encode_image = counted

        def on_task_end(self, trainer: Any, module: Any, task: int) -> None:
            self.encoded = -40  # those of training and of the prototypes are not meant

        def on_task_report(self, trainer: Any, module: Any, task: int) -> None:
            counts.append(self.encoded)

    counts: list[int] = []
    fit(ConDU(**SETTINGS, task_id=task_id, experts=2), Count())
    # in the whole run the pre-trained model sees each of the 90 test images once more, experts those that chose them
    if task_id == "unknown":
        assert counts == [90, 90 + 90, 2 * 90, 2 * 90]
    else:
        assert counts == [90, 30 + 2 * 60, 60 + 2 * 30, 90]
    for learned, encoded in enumerate(counts[1:], start=1):
        all_models = 90 * (learned + 1)
        assert encoded <= (2 + 1) / (learned + 1) * all_models


def test_an_expert_needs_no_memory_beside_the_two_models() -> None:
    generator = torch.Generator().manual_seed(0)
    start, *trained = ({"w": torch.randn(2000, 3000, generator=generator)} for _ in range(4))
    fusion = unify([delta_of(start, weights) for weights in trained])
    expert = {"w": start["w"].clone()}
    with PeakMemory() as memory:
        write_expert_(expert, start, Decoupled(fusion, 1))
    assert memory.peak <= 0.2 * start["w"].nbytes
    assert torch.equal(expert["w"], start["w"] + Decoupled(fusion, 1)["w"])


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of tensors that are made within it and alive at once."""

    def __enter__(self) -> "PeakMemory":
        self.live, self.peak = 0, 0
        return super().__enter__()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {tensor.untyped_storage().data_ptr() for tensor in tree_leaves((args, kwargs)) if is_tensor(tensor)}
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if is_tensor(tensor) and tensor.untyped_storage().data_ptr() not in known:
                size = tensor.untyped_storage().nbytes()
                self.live, self.peak = self.live + size, max(self.peak, self.live + size)
                weakref.finalize(tensor.untyped_storage(), self.free, size)
        return result

    def free(self, size: int) -> None:
        self.live -= size


def test_what_is_kept_does_not_grow_by_models() -> None:
    method = ConDU(**SETTINGS)
    fit(method)
    sizes = [tensor.numel() * tensor.element_size() for tensor in method.knowledge().values()]
    model = sum(weight.numel() * weight.element_size() for weight in method.initial.parameters())
    prototypes = sum(own.numel() * own.element_size() for own in method.prototypes)
    assert sum(sizes) <= model * (1 + 3 / 32) + prototypes + 64


def test_nor_does_its_file(runs: Path) -> None:
    model = ConDU(clip=MINI).initial
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    path = runs / "known" / "checkpoints" / "knowledge.safetensors"
    prototypes = sum(own.nbytes for name, own in load_file(path).items() if name.startswith("prototypes."))
    names = 20_000  # of the tensors, and where they lie
    assert path.stat().st_size <= weights * (1 + 3 / 32) + prototypes + names
    cost = read_results(runs / "known")["cost"]
    assert 4 * cost["stored_parameters"] <= weights * (1 + 3 / 32) + prototypes + 100


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs of three tasks, ``known`` and ``unknown``."""
    root = tmp_path_factory.mktemp("condu")
    for task_id in ("known", "unknown"):
        status, out, err = call("fit", "--config", CONFIG, *flags(root, task_id))
        assert status == 0, out + err
    return root


def flags(root: Path, task_id: str) -> list[str]:
    condu = ["--model", "gift_lightning.methods.ConDU", "--model.task_id", task_id, "--model.experts", "2"]
    return [*condu, "--run.root", str(root), "--run.name", task_id]


@pytest.mark.parametrize("task_id", ["known", "unknown"])
def test_a_finished_run_predicts_with_its_experts(task_id: str, runs: Path) -> None:
    results, model = read_results(runs / task_id), gift_lightning.load(runs / task_id)
    task = Flags(train_size=45, test_size=43)
    task.setup()
    shard = TestShard(task.test_set, model.clip.test_geometry, model.clip.normalize)
    with torch.no_grad():
        right = (model.evaluate(task, shard).argmax(1) == shard.labels).float().mean().item()
    assert 100 * right == pytest.approx(results["R"][-1][0])
    for file in ("last.ckpt", "knowledge.safetensors"):
        path = str(runs / task_id / "checkpoints" / file)
        status, out, err = call("test", "--config", CONFIG, *flags(runs, task_id), "--ckpt_path", path)
        assert status == 0, err
        assert all(f"{accuracy:.2f}" in out for accuracy in results["R"][-1]), out


def test_an_expert_is_found_by_the_name_of_its_task(runs: Path) -> None:
    path = str(runs / "known" / "checkpoints" / "last.ckpt")
    tasks = "[{class_path: datamodules.mini.Counting, init_args: {train_size: 61, test_size: 25}}]"
    last = ["--ckpt_path", path, "--data.tasks", tasks, "--model.lr", "1e-3"]
    status, out, err = call("test", "--config", CONFIG, *flags(runs, "known"), *last)
    assert status == 0, err
    assert f"{read_results(runs / 'known')['R'][-1][2]:.2f}" in out


def test_several_models_are_not_exported_as_one(runs: Path, tmp_path: Path) -> None:
    status, _, err = call("export", "--run", str(runs / "known"), "--out", str(tmp_path / "model.safetensors"))
    assert status == 2 and "ended with more than one model: use it with gift_lightning.load." in err


def test_what_is_kept_is_for_its_own_method_and_clip(runs: Path, tmp_path: Path) -> None:
    kept = load_file(runs / "known" / "checkpoints" / "knowledge.safetensors")
    with pytest.raises(InputError, match="The run has knowledge beside its weights, which Finetune does not use"):
        Finetune(clip=MINI).load_knowledge(kept)
    changed = {name: weight + 1.0 for name, weight in ConDU(clip=MINI).clip.model.state_dict().items()}
    save_file(changed, tmp_path / "other.safetensors")
    other = ConDU(clip=replace(MINI, weights=str(tmp_path / "other.safetensors")))
    with pytest.raises(InputError, match=r"belongs to another CLIP: give the clip with which it began"):
        other.load_knowledge(kept)
    with pytest.raises(InputError, match=r"The state of the run is not of a ConDU with this CLIP: .* is missing"):
        other.load_knowledge({"start": torch.ones(1)})
    fewer = {name: tensor for name, tensor in kept.items() if not name.endswith("token_embedding.weight")}
    with pytest.raises(InputError, match="The state of the run is damaged"):
        ConDU(clip=MINI).load_knowledge(fewer)


def test_what_was_learned_with_low_rank_matrices_is_read_without_them() -> None:
    learned = ConDU(**SETTINGS, lora=LoRA(rank=2, targets=["*.mlp.*"]))
    fit(learned)
    other = ConDU(clip=MINI)
    other.load_knowledge(learned.knowledge())
    for method in (learned, other):
        method.reconstruct_expert(1)
    pairs = zip(learned.clip.model.parameters(), other.clip.model.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_weights_of_a_model_that_has_learned_nothing_are_those_that_predict(runs: Path, tmp_path: Path) -> None:
    weights = {name: torch.zeros_like(weight) for name, weight in ConDU(clip=MINI).clip.model.state_dict().items()}
    save_file(weights, tmp_path / "zeros.safetensors")
    status, out, err = call(
        "test", "--config", CONFIG, *flags(runs, "known"), "--ckpt_path", f"{tmp_path}/zeros.safetensors"
    )
    assert status == 0, err
    assert all(f"{accuracy:.2f}" not in out for accuracy in read_results(runs / "known")["zero_shot"]), out


def test_a_prediction_that_is_broken_off_leaves_the_pre_trained_model(runs: Path) -> None:
    model = gift_lightning.load(runs / "unknown")
    assert isinstance(model, ConDU)
    task = Flags(45, 43)
    task.setup()
    shard = TestShard(task.test_set, model.clip.test_geometry, model.clip.normalize)
    become = model.reconstruct_expert

    def stopped(place: int) -> None:
        become(place)
        raise KeyboardInterrupt

    model.reconstruct_expert = stopped  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        model.evaluate(task, shard)
    pairs = zip(model.clip.model.parameters(), model.initial.parameters(), strict=True)
    assert all(torch.equal(ours, start) for ours, start in pairs)
    assert model.predict([], ["a", "b"]).shape == (0, 2)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    assert run_command(["fit", "--config", CONFIG, *flags(root, "unknown")], root / "log.txt") == 0
    return root / "unknown"


# on_task_end comes to callbacks when the models are fused and the prototypes are not there yet
@pytest.mark.parametrize(("amid", "call_number"), [("delta", 1), ("on_task_end", 1), ("reconstruct_expert", 5)])
def test_killed_in_a_fusion_or_an_expert(amid: str, call_number: int, undisturbed: Path, tmp_path: Path) -> None:
    command = ["fit", "--config", CONFIG, *flags(tmp_path, "unknown")]
    assert run_command([*command, *kill_at(amid, call_number)], tmp_path / "log.txt") == -9
    assert run_command([*command, "--ckpt_path", "last"], tmp_path / "log.txt") == 0, (tmp_path / "log.txt").read_text()
    assert_same_run(tmp_path / "unknown", undisturbed)


def test_half_precision_trains_and_predicts(tmp_path: Path) -> None:
    for lora in ([], ["--model.lora", "{rank: 4}"]):
        name = "lora" if lora else "all"
        half = ["--trainer.precision", "bf16-mixed", "--run.name", name, *lora]
        status, _, err = call("fit", "--config", CONFIG, *flags(tmp_path, "unknown"), *half)
        assert status == 0, err
        whole = gift_lightning.load(tmp_path / name)
        assert isinstance(whole, ConDU) and all(own.dtype == torch.float32 for own in whole.fusion.unified.values())


# --- the options ------------------------------------------------------------------------------------------------------


def test_similar_tasks_count_more_on_demand() -> None:
    logits, experts = torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.0, 1.0]], [[0.0, 3.0]]])
    weights = torch.tensor([[0.5, 0.25]])
    ours = aggregate(logits, lambda task, rows: experts[task][rows], weights)
    assert torch.allclose(ours, torch.tensor([[1.0, 0.5 + 0.75]]) / 1.75)


def test_prototypes_of_augmented_images_are_others_and_always_the_same() -> None:
    def prototypes(images: Any) -> Tensor:
        method = ConDU(**SETTINGS, prototype_images=images)
        fit(method)
        return method.prototypes[1]

    augmented = prototypes("augmented")
    assert torch.equal(augmented, prototypes("augmented"))
    assert 0.9 < (augmented * prototypes("test")).sum(1).min() < 1 - 1e-4


def test_low_rank_matrices_learn_and_the_model_does_not() -> None:
    class Watch(TaskCallback):
        def on_task_trained(self, trainer: Any, module: Any, task: int) -> None:
            assert all(
                torch.equal(*pair)
                for pair in zip(module.clip.model.parameters(), module.initial.parameters(), strict=True)
            )
            for change in module.delta().values():
                assert 0 < torch.linalg.matrix_rank(change.flatten(1)) <= 3

    method = ConDU(**SETTINGS, lora=LoRA(rank=3))
    sizes = {name: weight.shape for name, weight in method.named_parameters()}
    fit(method, Watch())
    assert method.fusion is not None and set(method.fusion.unified) == set(method.lora.shapes)
    assert {name: weight.shape for name, weight in method.named_parameters()} == sizes


def test_half_precision_chooses_the_same_experts() -> None:
    generator = torch.Generator().manual_seed(0)
    images, tasks = (torch.nn.functional.normalize(torch.randn(n, 32, generator=generator), dim=1) for n in (200, 30))
    whole = task_similarities(images, tasks.split(5))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(task_similarities(images, tasks.split(5)), whole)


def test_a_class_without_images_has_the_prototype_of_its_prompts() -> None:
    texts = torch.nn.functional.normalize(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    ours = class_prototypes(torch.eye(4)[:1], torch.tensor([0]), texts)
    assert torch.allclose(ours[1], torch.nn.functional.normalize(texts[1].mean(0), dim=0))


def test_nobody_knows_the_task_among_the_classes_of_all() -> None:
    with pytest.raises(InputError, match=r"With label_space all .* set task_id to unknown"):
        fit(ConDU(**SETTINGS), label_space="all")


def test_impossible_settings_are_told() -> None:
    with pytest.raises(InputError, match=r"experts is 0: give at least 1"):
        ConDU(clip=MINI, experts=0)
