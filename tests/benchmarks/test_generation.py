"""The drawing of images beside a textbook: the same images, and a row for each part."""

from pathlib import Path

import pytest
import torch

from benchmarks import generation


@pytest.mark.parametrize("shape", ["mini", "sd15"])
def test_both_ways_draw_the_same_images(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "WIDTH", 32)
    monkeypatch.setattr(generation, "SIDE", 8)
    table = generation.measured("cpu", steps=2, batch=2, shape=shape, batches=2, rounds=1)
    names, *ways = (list(column.cells) for column in table.columns[:3])
    assert names == ["denoising", "decoding", "writing", "all together", "device waits", "images/s"]
    assert all(float(cell) > 0 for way in ways for cell in (*way[:4], way[5]))
    assert "pixels differ by 0" in str(table.title)


def test_the_shape_is_that_of_stable_diffusion(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    counts: dict[str, int] = {}

    def count(pipeline: StableDiffusionPipeline, folder: Path) -> None:
        for name in ("unet", "vae"):
            counts[name] = sum(weight.numel() for weight in getattr(pipeline, name).parameters())

    monkeypatch.setattr(StableDiffusionPipeline, "save_pretrained", count)
    monkeypatch.setattr(StableDiffusionPipeline, "to", lambda pipeline, dtype: pipeline)
    generation.write_stable_diffusion(tmp_path, "meta", torch.float16)
    assert counts == {"unet": 859_520_964, "vae": 83_653_863}
