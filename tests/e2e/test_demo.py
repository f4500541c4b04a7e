"""The command ``demo``: its models answer as those of the run did, and its page works in a browser."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

import gift_lightning
from datamodules.mini import Counting, Flags, Shapes
from gift_lightning.commands.demo.answer import GUIDE, answer
from gift_lightning.runs.kept_models import KeptModels
from tests.e2e.conftest import call, free_port, read_results
from tests.e2e.demo_page import ROOT, python_with_gradio, served

EARLIER = ROOT / "tests" / "earlier" / "runs"
TEMPLATE = "a photo of a {}"


def accuracies(models: KeptModels, *tasks: Flags | Shapes | Counting) -> list[list[float]]:
    """The accuracy of each model on each task in percent, from its answers."""
    columns = []
    for task in tasks:
        task.setup()
        images, labels = zip(*[task.test_set[index] for index in range(len(task.test_set))], strict=True)
        said = models.predict(images, task.class_names, task.templates)
        columns.append(
            [100 * right / len(labels) for right in (said.argmax(2) == torch.tensor(labels)).sum(1).tolist()]
        )
    return [list(row) for row in zip(*columns, strict=True)]


def test_the_model_after_each_task_has_the_accuracies_of_its_row(reference: Path) -> None:
    models, results = KeptModels(reference), read_results(reference)
    assert models.names == ["pre-trained", "Flags", "Shapes", "Counting"] and not models.notes
    assert accuracies(models, Flags(45, 43), Shapes(80, 31), Counting(61, 25)) == [results["zero_shot"], *results["R"]]


@pytest.mark.parametrize("name", ["condu", "moeadapter"])
def test_a_method_with_knowledge_predicts_in_its_own_way(name: str, tmp_path: Path) -> None:
    run = tmp_path / name
    shutil.copytree(EARLIER / name, run)
    config = run / "config.yaml"
    config.write_text(
        config.read_text().replace("routers: task", "routers: task\n    threshold: 1.0")
    )  # all are routed
    models, task = KeptModels(run), Shapes(1, 12)
    task.setup()
    images = [image for image, _ in task.test_set]
    said = models.predict(images, task.class_names, [TEMPLATE])
    last, first = gift_lightning.load(run), gift_lightning.load(EARLIER / "zeroshot")
    assert models.names == ["pre-trained", "Shapes"] and "after the last task alone" in models.notes[0]
    assert torch.equal(said[1], last.predict(images, task.class_names, [TEMPLATE]))
    assert torch.equal(said[0], first.predict(images, task.class_names, [TEMPLATE]))
    assert not torch.equal(said[0], said[1])


def test_only_models_that_are_there_are_shown(reference: Path, tmp_path: Path) -> None:
    assert KeptModels(EARLIER / "zeroshot").names == ["pre-trained"]
    run = tmp_path / "run"
    shutil.copytree(reference, run)
    weights = run / "checkpoints"
    (weights / "task02.safetensors").unlink()
    models = KeptModels(run)
    assert (
        models.names == ["pre-trained", "Flags", "Counting"] and "task02.safetensors (after Shapes)" in models.notes[0]
    )
    image = tmp_path / "image.png"
    Image.new("RGB", (40, 30), "teal").save(image)
    assert "after Flags" in answer({"run": models}, image, "sea, sky", TEMPLATE)
    content = bytearray((weights / "task01.safetensors").read_bytes())
    content[-9] ^= 1
    (weights / "task01.safetensors").write_bytes(content)
    assert "task01.safetensors cannot be read: it is damaged" in answer({"run": models}, image, "sea, sky", TEMPLATE)


def test_bad_input_is_one_sentence_on_the_page(tmp_path: Path) -> None:
    models = {"<b>run</b>": KeptModels(EARLIER / "zeroshot")}
    image, damaged = tmp_path / "image.png", tmp_path / "damaged.png"
    Image.new("RGB", (40, 30), "teal").save(image)
    damaged.write_bytes(image.read_bytes()[:60])
    assert GUIDE in answer(models, None, "sea, sky", TEMPLATE)
    for file, names, template, sentence in (
        (image, "sea", TEMPLATE, "at least two classes"),
        (damaged, "sea, sky", TEMPLATE, "The image cannot be decoded"),
        (image, "sea, sky", "a photo", "no list of prompts with one {}"),
        (image, "sea, " + "very " * 80 + "blue", TEMPLATE, "is longer than the text that the CLIP reads"),
    ):
        said = answer(models, file, names, template)
        assert said.startswith("<p") and said.count("<p") == 1 and sentence in said, said
    hostile = answer(models, image, "<script>alert(1)</script>\na|b", TEMPLATE)
    assert "&lt;script&gt;" in hostile and "<script" not in hostile and "<b>" not in hostile


def test_bad_input_is_one_sentence_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("gradio") is None:
        status, _, err = call("demo", "--runs", str(EARLIER / "gift"))
        assert status == 2 and 'pip install "gift-lightning[demo]"' in err and err.count("\n") == 1
    monkeypatch.setattr("gift_lightning.commands.demo.command.find_spec", lambda name: True)
    for words, sentence in (
        ([str(tmp_path)], "holds no run: name the folder"),
        ([str(EARLIER / "unfinished_gift")], "holds an unfinished run"),
        ([str(EARLIER / "gift"), "--port", "many"], "--port is many: give a number from 1 to 65535."),
    ):
        status, _, err = call("demo", "--runs", *words)
        assert status == 2 and sentence in err and err.count("\n") == 1, err


@pytest.mark.slow
def test_the_page_in_a_browser(reference: Path, tmp_path: Path, browser: webdriver.Chrome) -> None:
    """It answers, tells of a damaged image, asks no other machine, and fits narrow and wide windows in two themes."""
    image, damaged = tmp_path / "image.png", tmp_path / "damaged.png"
    Image.new("RGB", (40, 30), "teal").save(image)
    damaged.write_bytes(image.read_bytes()[:60])
    python, port = python_with_gradio(tmp_path / "environment"), free_port()

    def shown(selector: str) -> str:
        wait = WebDriverWait(browser, 90)
        return wait.until(lambda chrome: chrome.find_elements(By.CSS_SELECTOR, selector))[0].get_attribute("innerText")

    uploads = tmp_path / "uploads"
    uploads.mkdir()
    with served(python, [reference, EARLIER / "condu"], "--port", port, TMPDIR=str(uploads)) as address:
        browser.get(address)
        assert GUIDE in shown(".message")
        browser.find_element(By.CSS_SELECTOR, "textarea").send_keys("sea\nsky\n<b>bold</b>")
        browser.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(image))
        table = shown(".answers table")
        assert all(word in table for word in ("pre-trained", "after Flags", "after Counting", "sea", "<b>bold</b>"))
        assert [*uploads.rglob("image.png")]
        assert "after the last task alone" in shown(".answers figure:nth-of-type(2) p")
        grounds = set()
        for theme, width in (("light", 400), ("light", 1600), ("dark", 400)):
            feature = {"name": "prefers-color-scheme", "value": theme}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
            grounds.add(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        assert len(grounds) == 2
        browser.refresh()
        WebDriverWait(browser, 90).until(lambda chrome: chrome.find_elements(By.CSS_SELECTOR, "input[type=file]"))
        browser.find_element(By.CSS_SELECTOR, "textarea").send_keys("sea, sky")
        browser.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(str(damaged))
        assert "The image cannot be decoded" in shown(".fault")
        events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        asked = [
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        ]
        assert asked and all(url.startswith((address, "data:", "blob:")) for url in asked), asked
        assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [*uploads.rglob("*.png")]
