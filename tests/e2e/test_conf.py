"""Every config works: all are parsed and build what they name, those of the benchmarks run in small."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from datamodules.mini import Shapes
from gift_lightning import methods
from gift_lightning.commands.cli import SequenceCLI
from gift_lightning.config.files import with_bases
from tests.datamodules.mtil import miniature
from tests.e2e.conftest import call, read_results

CONF = Path(__file__).parents[2] / "conf"
WHOLE = ("quickstart", "own_images", "mini/", "mtil_order_1/", "mtil_order_2/", "cil/")
"""What is run by itself; the rest goes on top of another config."""
ORDERS = {"mtil_order_1": ("Aircraft", "Caltech101"), "mtil_order_2": ("StanfordCars", "Food")}


def small_clip(name: str) -> list[str]:
    return ["--model.clip.name", name, "--model.clip.pretrained", "null"]


def name_of(path: Path) -> str:
    return path.relative_to(CONF).with_suffix("").as_posix()


def is_whole(path: Path) -> bool:
    name = name_of(path)
    return name.startswith(WHOLE) and "/steps/" not in name and not name.endswith("/base")


FILES = sorted(CONF.rglob("*.yaml"))


@pytest.mark.parametrize("path", [path for path in FILES if is_whole(path)], ids=name_of)
def test_it_builds_what_it_names(path: Path, small_vit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SequenceCLI, "_run_subcommand", lambda cli, command: None)
    small = [] if name_of(path).startswith(("mini/", "quickstart")) else small_clip(small_vit)
    if path.stem.startswith("moe_adapter"):
        small += ["--model.alexnet", "null"]
    status, out, err = call("fit", "--config", str(path), "--run.root", str(tmp_path), *small)
    assert status == 0, out + err


@pytest.mark.parametrize("path", sorted((CONF / "cil" / "steps").glob("*.yaml")), ids=name_of)
def test_steps_go_on_top(path: Path, small_vit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[SequenceCLI] = []
    monkeypatch.setattr(SequenceCLI, "_run_subcommand", lambda cli, command: built.append(cli))
    configs = ["--config", str(CONF / "cil" / "finetune.yaml"), "--config", str(path)]
    status, out, err = call("fit", *configs, "--run.root", str(tmp_path), *small_clip(small_vit))
    assert status == 0, out + err
    steps, first = int(path.stem.split("_")[1]), built[0].datamodule.tasks[0]
    assert built[0].datamodule.num_tasks == steps + (path.stem.startswith("tinyimagenet"))
    assert first.templates == ["a bad photo of a {}."]


def test_both_orders_have_the_same_methods_with_the_same_settings() -> None:
    first, second = ({path.name for path in (CONF / order).glob("*.yaml")} for order in ORDERS)
    assert first == second
    for name in first - {"base.yaml"}:
        content = yaml.safe_load((CONF / "mtil_order_2" / name).read_text())
        assert content == {
            "base": [f"../mtil_order_1/{name}", "base.yaml"],
            "run": {"name": f"mtil_order_2_{name.removesuffix('.yaml')}"},
        }


@pytest.mark.parametrize("folder", ["mini", "mtil_order_1", "cil"])
def test_every_method_has_a_config(folder: str) -> None:
    texts = "".join(path.read_text() for path in (CONF / folder).glob("*.yaml"))
    for name in set(methods.__all__) - {"ContinualCLIP", "GIFTAblation", "ZSCLAblation"}:
        assert f"gift_lightning.methods.{name}\n" in texts, name


def test_overlays_name_the_class_whose_settings_they_change() -> None:
    for path in (CONF / "ablation").glob("*.yaml"):
        changed = yaml.safe_load(path.read_text()).get("model", {})
        switches = {"teacher", "initial_weight", "distillation", "consolidation"} & changed.get("init_args", {}).keys()
        assert changed.get("class_path") == ("gift_lightning.methods.GIFTAblation" if switches else None), path.stem


# --- in small ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The first two data sets of both orders and MNIST in miniature, and a folder of reference images."""
    root = tmp_path_factory.mktemp("data")
    pictures = Shapes(12, 1)
    pictures.setup()
    for folder in (root / "ImageNet" / "train", root / "ConceptualCaptions" / "images"):
        folder.mkdir(parents=True)
        for index, (image, _) in enumerate(pictures.train_set):
            image.save(folder / f"{index}.png")
    captions = "".join(f"a picture of {index} shapes\thttps://example.org/{index}\n" for index in range(9))
    (root / "ConceptualCaptions" / "Train_GCC-training.tsv").write_text(captions)
    with pytest.MonkeyPatch.context() as patched:
        for name in (*ORDERS["mtil_order_1"], *ORDERS["mtil_order_2"], "MNIST"):
            miniature.expect(patched, name, root)
        yield root


IN_SMALL = [path for path in FILES if is_whole(path) and name_of(path).startswith(("mtil_order_", "cil/"))]


def is_replaying(path: Path) -> bool:
    return "replay" in (yaml.safe_load(path.read_text()).get("data") or {})


def in_small(path: Path, data: Path, clip: str, root: Path) -> list[str]:
    """Flags for two steps of two tasks."""
    folder = path.parent.name
    tasks = ", ".join(f"{{class_path: datamodules.{name}}}" for name in ORDERS.get(folder, ()))
    if folder == "cil":
        cut = "initial: 5, increment: 5, order: null, source: {class_path: datamodules.MNIST}"
        tasks = f"{{class_path: datamodules.ClassIncremental, init_args: {{{cut}}}}}"
    flags = ["--data.tasks", f"[{tasks}]", "--data.root", str(data), "--data.steps", "2", "--model.lr", "1e-5"]
    flags += ["--data.batch_size", "4", "--data.num_workers", "0", "--run.root", str(root), "--trainer.accelerator"]
    flags += ["cpu", "--trainer.enable_progress_bar", "false", *small_clip(clip)]
    if path.stem == "gift":
        flags += ["--data.replay.images_per_task", "6", "--data.replay.generator", "datamodules.mini.NoiseGenerator"]
        flags += ["--data.replay.initial_prompts", "[a photo of a star, a photo of a house]"]
    if path.stem == "icarl":
        flags += ["--data.replay.size", "4"]
    if path.stem.startswith("moe_adapter") and folder != "cil":
        flags += ["--model.alexnet", "null", "--model.selector_steps", "2", "--model.reference_steps", "2"]
        flags += ["--data.replay.images", str(data / "ImageNet" / "train")]
    if any(is_replaying(Path(file)) for file in with_bases(str(path))):
        flags += ["--data.replay.batch_size", "4"]
    return flags


@pytest.mark.parametrize("path", IN_SMALL, ids=name_of)
def test_two_steps_of_two_tasks(path: Path, data: Path, small_vit: str, tmp_path: Path) -> None:
    status, out, err = call("fit", "--config", str(path), *in_small(path, data, small_vit, tmp_path))
    assert status == 0, out + err
    (folder,) = (results.parent for results in tmp_path.glob("*/results.json"))
    results = read_results(folder)
    assert results["complete"] and folder.name.endswith(path.stem)
    assert tuple(results["tasks"]) == ORDERS.get(path.parent.name, ("MNIST_1", "MNIST_2"))
    above = results["R"][0][1]
    assert (above is None) == (path.parent.name == "cil")
    assert (results["metrics"]["transfer"] is None) == (path.parent.name == "cil")


def test_few_images_of_each_class(data: Path, small_vit: str, tmp_path: Path) -> None:
    path = CONF / "mtil_order_1" / "finetune.yaml"
    few = ["--config", str(CONF / "few_shot.yaml"), "--data.shots", "1", "--data.label_space", "all"]
    status, out, err = call("fit", "--config", str(path), *few, *in_small(path, data, small_vit, tmp_path))
    assert status == 0, out + err
    results = read_results(tmp_path / "mtil_order_1_finetune")
    assert all("1 shots" in fingerprint for fingerprint in results["protocol"]["fingerprints"].values())
    assert results["protocol"]["label_space"] == "all"
