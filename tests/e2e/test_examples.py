"""The examples, run as a user runs them."""

import runpy
from pathlib import Path

import pytest

from gift_lightning import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.methods import L2

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_plain_trainer_stops_and_resumes_with_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(EXAMPLES / "plain_trainer.py"))["main"](str(tmp_path))
    checkpoint = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    with pytest.raises(InputError, match="has no config: give all arguments of L2, beginning with clip"):
        L2.load_from_checkpoint(checkpoint)
    clip = CLIPSource("package:datamodules.mini.clip")
    assert L2.load_from_checkpoint(checkpoint, clip=clip, lr=1e-3).task == 1
    matrices = [line for line in capsys.readouterr().out.splitlines() if line.startswith("accuracy after task")]
    assert len(matrices) == 3 and matrices[0] == matrices[2] != matrices[1]
