"""The command that pre-trains the small CLIP."""

import math
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.mini_models import pretrain
from benchmarks.mini_models.recipe import PEAK_RATE
from datamodules.mini.clip import FOLDER
from gift_lightning.errors import InputError

ARGUMENTS = ["--batch-size", "16", "--test-size", "10"]


def test_two_steps_make_a_model_folder(tmp_path: Path) -> None:
    pretrain.main(["--steps", "2", "--out", str(tmp_path), *ARGUMENTS])
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"README.md", "merges.txt.gz", "open_clip_config.json", "open_clip_model.safetensors"}
    assert "--steps 2 --seed 0 --batch-size 16" in (tmp_path / "README.md").read_text()
    open_clip.create_model(f"local-dir:{tmp_path}")


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("straight", "stopped"):
        (tmp_path / name).mkdir()
        for file in ("open_clip_config.json", "merges.txt.gz"):
            (tmp_path / name / file).write_bytes((FOLDER / file).read_bytes())
    pretrain.pretrain(8, 0, tmp_path / "straight", batch=8)

    monkeypatch.setattr(pretrain, "_SNAPSHOT_SECONDS", 0)
    real = pretrain.train_step
    seen: list[int] = []

    def stop_in_the_sixth(*args: object) -> float:
        if len(seen) == 5:
            raise KeyboardInterrupt
        seen.append(0)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(pretrain, "train_step", stop_in_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(8, 0, tmp_path / "stopped", batch=8)
    monkeypatch.setattr(pretrain, "train_step", real)
    with pytest.raises(InputError, match="already falls"):
        pretrain.pretrain(9, 0, tmp_path / "stopped", batch=8)
    pretrain.pretrain(8, 0, tmp_path / "stopped", batch=8)
    a, b = (load_file(tmp_path / name / "open_clip_model.safetensors") for name in ("straight", "stopped"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_rate_does_not_know_the_length_until_it_falls() -> None:
    assert [pretrain.rate(step, 1000) for step in range(600)] == [pretrain.rate(step, 5000) for step in range(600)]
    assert pretrain.rate(999, 1000) < 1e-4 * PEAK_RATE < pretrain.rate(0, 1000)


def test_contrastive_loss_counts_equal_captions_as_positives() -> None:
    g = torch.Generator().manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(n, 5, generator=g), dim=-1) for n in (3, 2))
    caption = torch.tensor([0, 1, 0])
    logits = 7 * image @ text.T
    to_text = -sum(logits[i].log_softmax(0)[caption[i]] for i in range(3)) / 3
    columns = logits.T.log_softmax(1)
    to_image = -((columns[0, 0] + columns[0, 2]) / 2 + columns[1, 1]) / 2
    loss = pretrain.contrastive_loss(image, text, caption, torch.tensor(7.0))
    assert math.isclose(loss.item(), (0.5 * to_text + 0.5 * to_image).item(), rel_tol=1e-6)
