"""What ``doctor`` says of a config before it runs, and what ``fit`` says of the same lack."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from datamodules.mtil.facts import FACTS
from gift_lightning.commands.doctor import verdict
from gift_lightning.commands.doctor.bench import bound
from tests.datamodules.mtil.miniature import expect
from tests.datamodules.mtil.test_download import Server, offer, server  # noqa: F401 (a fixture)
from tests.e2e.conftest import CONFIG, call, fit_here

ROOT = Path(__file__).parents[2]
MTIL = [name for name in FACTS if name != "TinyImageNet"]
GENERATOR = "--data.replay.init_args.generator"
DIFFUSION = [GENERATOR, "datamodules.replay.diffusion.DiffusionGenerator"]
STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
OPENAI = ["--model.clip.name", "ViT-B-16", "--model.clip.pretrained", "openai"]


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide terminal, that no path is folded, and an empty cache of the hub."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def config(tmp_path: Path, names: list[str]) -> list[str]:
    """Fine-tuning of the small CLIP on data sets that lie in ``tmp_path / "data"``."""
    content = yaml.safe_load((ROOT / "conf" / "mini" / "finetune.yaml").read_text())
    root = str(tmp_path / "data")
    content["data"]["tasks"] = [{"class_path": f"datamodules.{name}", "init_args": {"root": root}} for name in names]
    path = tmp_path / "mtil.yaml"
    path.write_text(yaml.safe_dump(content))
    return ["--config", str(path), "--run.root", str(tmp_path / "runs")]


def gift(tmp_path: Path, *flags: str) -> list[str]:
    overlay = str(Path(__file__).parent / "gift.yaml")
    return ["--config", CONFIG, "--config", overlay, "--run.root", str(tmp_path), *flags]


def rows(out: str, state: str) -> list[str]:
    """The names in the lines of a table that have this state."""
    lines = [line.split() for line in out.splitlines() if f"  {state} " in line]
    return [words[0] for words in lines]


# --- data sets --------------------------------------------------------------------------------------------------------


def test_an_empty_folder(tmp_path: Path) -> None:
    status, out, err = call("doctor", *config(tmp_path, MTIL))
    assert (status, err) == (1, "")
    assert rows(out, "missing") == MTIL
    lines = out.splitlines()
    (food,) = [line.split() for line in lines if line.startswith("Food") and "0 / 75750" in line]
    assert food == ["Food", "missing", "0", "/", "75750", "0", "/", "25250", "food-101", "5.0", "GB"]
    assert f"in {tmp_path}/data" in lines[0]
    assert f"{tmp_path}/data/fgvc-aircraft-2013b does not exist. Fetch it with --download" in out
    assert "non-commercial research only; https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/" in out
    assert sum(line.endswith("by hand") for line in map(str.strip, lines)) == 2
    assert "StanfordCars is no longer at its address: put a copy of cars_train/" in out
    assert "data sets, packed and unpacked   98.0 GB" in out
    more = 8 + (shutil.disk_usage(tmp_path).free < 99e9)  # room on the disk
    assert lines[-1] == f"A fit with this config would fail: it lacks Aircraft, Caltech101, CIFAR100 and {more} more."
    assert not (tmp_path / "data").exists() and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("width", [80, 100])
def test_no_line_is_wider_than_the_terminal(width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = call("doctor", *config(tmp_path, MTIL))[1]
    assert max(map(len, out.splitlines())) <= width
    assert rows(out, "missing") == MTIL


def test_all_data_sets_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MTIL:
        expect(monkeypatch, name, tmp_path / "data")
    status, out, err = call("doctor", *config(tmp_path, MTIL))
    assert (status, err) == (0, "")
    assert rows(out, "present") == [*MTIL, "CLIP"]
    assert "licence" not in out and "0 /" not in out
    assert out.splitlines()[-1] == "A fit with this config can begin."


def test_an_incomplete_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DTD", "MNIST", "OxfordPet"):
        expect(monkeypatch, name, tmp_path / "data")
    image = tmp_path / "data" / "oxford-iiit-pet" / "images" / "Abyssinian_1.jpg"
    image.unlink()
    shutil.move(tmp_path / "data" / "dtd", tmp_path / "data" / "textures")
    argv = config(tmp_path, ["DTD", "MNIST", "OxfordPet"])
    status, out, _ = call("doctor", *argv)
    assert status == 1
    assert rows(out, "incomplete") == ["OxfordPet"]
    (pets,) = [line.split() for line in out.splitlines() if line.startswith("OxfordPet   incomplete")]
    assert pets[2:7] == ["6", "2", "/", "3", "oxford-iiit-pet"]
    assert rows(out, "wrong layout") == ["DTD"]
    assert rows(out, "present")[:1] == ["MNIST"]
    assert f"{image} is missing: unpack the archive again." in out
    assert out.splitlines()[-1] == "A fit with this config would fail: it lacks DTD, OxfordPet."
    assert call("fit", *argv)[2] == (
        f"error: Task 'DTD': The data set lies in {tmp_path}/data/textures/dtd and has to lie in"
        f" {tmp_path}/data/dtd/dtd: move it, and 1 more source of images cannot be used ('python -m"
        " gift_lightning doctor' says more).\n"
    )


def test_fit_names_the_first_that_is_missing(tmp_path: Path) -> None:
    status, _, err = call("fit", *config(tmp_path, MTIL))
    assert status == 2
    assert err == (
        f"error: Task 'Aircraft': {tmp_path}/data/fgvc-aircraft-2013b does not exist, and 10 more sources of images"
        " cannot be used ('python -m gift_lightning doctor' says more).\n"
    )


def test_download(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    for name in ("DTD", "MNIST"):
        offer(server, monkeypatch, name, tmp_path / name)
    argv = config(tmp_path, ["DTD", "StanfordCars", "MNIST"])
    assert call("doctor", *argv)[0] == 1
    monkeypatch.setenv("RANK", "1")
    assert call("doctor", *argv, "--download") == (0, "", "")
    assert not server.ranges  # nothing was asked for
    monkeypatch.setenv("RANK", "0")
    status, out, _ = call("doctor", *argv, "--download")
    assert status == 1
    assert rows(out, "present")[:2] == ["DTD", "MNIST"] and rows(out, "missing") == ["StanfordCars"]
    assert "DTD: fetched." in out and "StanfordCars: fetched." not in out
    status, out, _ = call("doctor", *config(tmp_path, ["DTD", "MNIST"]), "--download")
    assert status == 0 and "fetched" not in out


def test_a_download_that_fails_keeps_no_other_from_coming(
    server: Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DTD", "MNIST"):
        offer(server, monkeypatch, name, tmp_path / name)
    del server.contents["dtd-r1.0.1.tar.gz"]
    status, out, _ = call("doctor", *config(tmp_path, ["DTD", "MNIST"]), "--download")
    assert status == 1
    assert "dtd-r1.0.1.tar.gz cannot be fetched (HTTP status 404)" in out
    assert rows(out, "missing") == ["DTD"] and rows(out, "present")[:1] == ["MNIST"]


# --- weights ----------------------------------------------------------------------------------------------------------


def test_a_weights_file_that_is_missing(tmp_path: Path) -> None:
    status, out, _ = call("doctor", "--config", CONFIG, "--model.clip.weights", str(tmp_path / "no.pt"))
    assert status == 1
    assert rows(out, "missing") == ["CLIP"]
    assert f"model.clip.weights '{tmp_path}/no.pt' does not exist: give a weights file or null." in out
    assert out.splitlines()[-1] == "A fit with this config would fail: it lacks CLIP."


def test_weights_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, _ = call("doctor", "--config", CONFIG, *OPENAI)
    assert status == 1
    (line,) = [line for line in out.splitlines() if line.startswith("CLIP      missing")]
    assert "https://huggingface.co/timm/vit_base_patch16_clip_224.openai" in line and "598 MB" in line
    assert "is not in the cache of the Hugging Face hub. Fetch it with --download" in out
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    status, out, _ = call("doctor", "--config", CONFIG, *OPENAI, "--download")
    assert status == 1 and "model.clip.pretrained 'openai' is not on this machine" in out
    cache = tmp_path / "hub" / "models--timm--vit_base_patch16_clip_224.openai"
    weights = cache / "snapshots" / "abc" / "open_clip_model.safetensors"
    for path, content in {cache / "refs" / "main": "abc", weights: "weights"}.items():
        path.parent.mkdir(parents=True)
        path.write_text(content)
    status, out, _ = call("doctor", "--config", CONFIG, *OPENAI)
    assert status == 0 and str(weights) in out


def test_weights_with_a_tokenizer_of_their_own(tmp_path: Path) -> None:
    weights = tmp_path / "clipa.safetensors"
    weights.touch()
    flags = ["--model.clip.name", "ViT-L-14-CLIPA", "--model.clip.pretrained", str(weights)]
    out = call("doctor", "--config", CONFIG, *flags)[1]
    assert rows(out, "missing") == ["CLIP"]
    assert "bert-base-uncased is not in the cache of the Hugging Face hub." in out


def test_memory_and_checkpoints_follow_from_the_parameters() -> None:
    out = call("doctor", "--config", CONFIG, *OPENAI)[1]
    numbers = {line.split("  ")[0]: line.split()[-6:] for line in out.splitlines() if line[:6] in ("checkp", "memory")}
    clip = 4 * 149_620_737 / 1e9
    # L2 keeps a copy of the weights before the task
    memory = float(re.search(r"memory: model and activations +(\S+) GB", out)[1])  # type: ignore[index]
    assert 1.2 < memory - 5 * clip < 2.1  # of 8 images
    assert f"{3 * clip + 2 * 4 * clip:.1f} GB" in " ".join(numbers["checkpoints and weights"])


@pytest.mark.parametrize(
    ("flags", "activations"),
    [
        ([], 10.7),  # of 64 images, and of prompts that are not known yet; with these, a GPU took 14.5 GB for GIFT
        (["--trainer.precision", "bf16-mixed"], 5.4),
        (["--trainer.accumulate_grad_batches", "2", "--trainer.devices", "2"], 3.7),
        (["--model.activation_checkpointing", "true"], 2.1),
    ],
)
def test_activations_are_those_of_a_batch(flags: list[str], activations: float, tmp_path: Path) -> None:
    out = call("doctor", *config(tmp_path, ["CIFAR100"]), *OPENAI, "--data.batch_size", "64", *flags)[1]
    memory = float(re.search(r"memory: model and activations +(\S+) GB", out)[1])  # type: ignore[index]
    assert memory == pytest.approx(4 * 4 * 149_620_737 / 1e9 + activations, abs=0.15)


def test_activations_beyond_the_memory_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "machine_memory", lambda accelerator: ("a small GPU", 8_000_000_000))
    _, out, err = call("doctor", "--config", CONFIG, *OPENAI, "--data.batch_size", "64")
    assert re.search(r"note: Weights, .* activations take about 13\.\d GB, and there are 8\.0 GB: set", err)
    assert "lacks memory" not in out


def test_what_grows_with_the_tasks_counts() -> None:
    flags = ["--config", CONFIG, *OPENAI, "--model", "gift_lightning.methods.MoEAdapter", "--model.experts"]
    gigabytes = {"MB": 1e-3, "GB": 1.0}
    found = [re.search(r"memory: model +(\S+) (\w+)", call("doctor", *flags, n)[1]) for n in ("2", "22")]
    few, many = (float(memory[1]) * gigabytes[memory[2]] for memory in found if memory)
    width, blocks = 64, ((768, 12), (512, 12))
    experts = sum(20 * (2 * width * size + width + size) * count for size, count in blocks)
    assert many - few == pytest.approx(4 * 4 * experts / 1e9, abs=0.1)  # weights, gradients, and two moments of Adam


def test_tasks_that_end_before_the_warm_up_are_told_as_by_fit(tmp_path: Path) -> None:
    short = ["--data.steps", "2", "--model.warmup_steps", "8"]
    note = "note: The learning rate reaches 25% of model.lr at most in"
    notes = [
        [line for line in call(*command, "--run.root", str(tmp_path), *short)[2].splitlines() if line.startswith(note)]
        for command in (("doctor", "--config", CONFIG), ("fit", "--config", CONFIG))
    ]
    assert len(notes[0]) == 1 and notes[0] == notes[1]
    epochs = ["--data.steps", "epoch", "--model.warmup_steps", "100000"]
    assert "note: The learning rate reaches 0% of model.lr" in call("doctor", "--config", CONFIG, *epochs)[2]
    missing = config(tmp_path, MTIL[:2])  # whose numbers of images are not known
    assert call("doctor", *missing, "--data.steps", "epoch", "--model.warmup_steps", "100000")[2] == ""


def test_a_pass_over_few_shots_is_as_short_as_they_are(tmp_path: Path) -> None:
    """One image of each of 28, 20 and 8 classes, in batches of 8; with all images each task has 6 steps or more."""
    flags = ["--data.shots", "1", "--data.steps", "epoch", "--data.batch_size", "8", "--model.warmup_steps", "5"]
    expected = [
        f"note: The learning rate reaches {share} of model.lr at most in {task}: a task of {steps} steps ends before"
        " model.warmup_steps, 5."
        for task, steps, share in (("Flags", 4, "80%"), ("Shapes", 3, "60%"), ("Counting", 1, "20%"))
    ]
    for command in ("doctor", "fit"):
        lines = call(command, "--config", CONFIG, "--run.root", str(tmp_path), *flags)[2].splitlines()
        assert [line for line in lines if line.startswith("note: The learning rate")] == expected


# --- replay -----------------------------------------------------------------------------------------------------------


def test_a_pipeline_that_is_missing(tmp_path: Path) -> None:
    argv = gift(tmp_path, *DIFFUSION, f"{GENERATOR}.name", "/no/where")
    status, out, _ = call("doctor", *argv)
    assert status == 1
    assert rows(out, "missing") == ["text"]
    assert "data.replay.generator.name: /no/where does not exist; give the folder of a pipeline" in out
    assert "120 of 120 images are to be drawn" in out
    assert "lacks text to image." in out
    assert "data.replay.generator.name: /no/where does not exist" in call("fit", *argv)[2]


def test_fit_looks_for_the_pipeline_before_the_first_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of the first task are there: without a look ahead, it would be asked for at the second."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    argv = gift(tmp_path)
    assert call("generate", *argv)[0] == 0
    assert call("doctor", *argv)[0] == 0
    other = [*argv, *DIFFUSION, f"{GENERATOR}.name", STABLE_DIFFUSION]
    assert call("doctor", *other)[0] == 0  # nothing is left to draw
    shutil.rmtree(tmp_path / "replay" / "Shapes_Syn")
    status, out, _ = call("doctor", *other)
    assert status == 1 and "40 of 120 images are to be drawn" in out
    status, _, err = call("fit", *other)
    assert status == 2
    assert f"there is no folder {STABLE_DIFFUSION}, and it is not whole in the cache of the Hugging Face hub" in err
    assert not list((tmp_path / "gift").glob("checkpoints/*"))


def test_a_folder_that_is_only_read(tmp_path: Path) -> None:
    argv = gift(tmp_path)
    assert call("generate", *argv)[0] == 0
    read = [*argv, GENERATOR, "null"]
    assert call("doctor", *read)[0] == 0
    (tmp_path / "replay" / "Counting_Syn" / "39.png").unlink()
    status, out, _ = call("doctor", *read)
    told = "Counting_Syn lacks 1 of the 40 images that its image_text.csv names, the first one is 39.png"
    assert status == 1 and told in out
    assert told in call("fit", *read)[2]


def test_reference_images_that_are_missing(tmp_path: Path) -> None:
    replay = ["--data.replay", "datamodules.Reference", "--data.replay.images", str(tmp_path / "nowhere")]
    flags = ["--model", "gift_lightning.methods.ZSCL", *replay]
    status, out, _ = call("doctor", "--config", CONFIG, *flags)
    assert status == 1
    assert rows(out, "missing") == ["reference"]
    assert f"data.replay.images: {tmp_path}/nowhere does not exist" in out
    assert f"data.replay.images: {tmp_path}/nowhere does not exist" in fit_here(tmp_path, *flags)[2]


# --- speed ------------------------------------------------------------------------------------------------------------


def test_bench_times_loading_beside_a_step(tmp_path: Path) -> None:
    mini = str(ROOT / "conf" / "mini" / "finetune.yaml")
    flags = ["--run.root", str(tmp_path), "--bench", "--trainer.accelerator", "cpu", "--data.batch_size", "4"]
    status, out, err = call("doctor", "--config", mini, *flags)
    assert (status, err) == (0, "")
    rates = [float(rate) for rate in re.findall(r"^(?:loading|forward) .*, \D*\d+ +(\d+)$", out, re.MULTILINE)]
    assert len(rates) == 2 and min(rates) > 1
    assert re.search(r"^(The device bounds the run|Loading takes \d+ % of the time): .*\.$", out, re.MULTILINE)
    assert not list(tmp_path.iterdir())
    status, out, _ = call("doctor", "--config", str(ROOT / "conf" / "mini" / "zero_shot.yaml"), *flags)
    assert status == 0 and "Nothing is timed: this method takes no training steps." in out
    status, out, _ = call("doctor", "--config", mini, *flags, "--model.clip.pretrained", "nowhere.pt")
    assert status == 1 and "Nothing is timed: " in out and "nowhere.pt" in out


def test_what_bounds_a_run() -> None:
    assert bound(10_000, 500, 0, 8) == "The device bounds the run: loading takes 5 % of the time."
    assert bound(200, 500, 4, 16) == "Loading bounds the run: set data.num_workers to 10."
    assert bound(200, 500, 4, 8).endswith("set data.num_workers to 8, the cores of this machine; 10 would be needed.")
    assert bound(400, 500, 8, 8).startswith("Loading bounds the run, on all 8 cores of this machine: smaller image fil")


def test_settings_that_do_not_go_together_are_one_sentence() -> None:
    status, _, err = call("doctor", "--config", CONFIG, "--model.l2", "-1")
    assert (status, err) == (2, "error: model.l2 is -1.0: it cannot be negative.\n")


def test_a_clip_that_does_not_exist_or_does_not_do() -> None:
    status, out, _ = call("doctor", "--config", CONFIG, "--model.clip.name", "ViT-B-61")
    assert status == 1
    assert "model.clip.name 'ViT-B-61' is not a model of open_clip (did you mean 'ViT-B-16'?)" in out
    status, _, err = call(
        "doctor", "--config", CONFIG, "--model.clip.name", "RN50", "--model.clip.pretrained", "openai"
    )
    assert status == 2 and "This CLIP has BatchNorm layers" in err


@pytest.mark.parametrize(
    "path", sorted((ROOT / "conf" / "mtil_order_1").glob("[!b]*.yaml")), ids=lambda path: path.stem
)
def test_every_published_config(path: Path, tmp_path: Path) -> None:
    flags = ["--data.root", str(tmp_path / "data"), "--run.root", str(tmp_path / "runs")]
    status, out, err = call("doctor", "--config", str(path), *flags)
    assert (status, err) == (1, "")
    assert rows(out, "missing")[:11] == MTIL
    assert ("AlexNet" in out) == path.stem.startswith("moe_adapter")
    assert "A fit with this config would fail: it lacks Aircraft, Caltech101, CIFAR100 and" in out
