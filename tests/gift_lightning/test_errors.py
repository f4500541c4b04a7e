"""One sentence for two readers: those who write configs read keys, those who write Python read arguments."""

import pickle

import pytest

from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError, advice, naming_keys
from gift_lightning.methods import GIFT, L2
from tests.e2e.conftest import CONFIG, call

CLIP = CLIPSource("package:datamodules.mini.clip")


@pytest.mark.parametrize(
    ("make", "flags", "python", "command_line"),
    [
        (
            lambda: L2(clip=CLIP, l2=-1.0),
            ["--model.l2", "-1.0"],
            "l2 is -1.0: it cannot be negative.",
            "model.l2 is -1.0: it cannot be negative.",
        ),
        (
            lambda: GIFT(clip=CLIP, distillation_weight=0, alignment_weight=0),
            ["--model", "gift_lightning.methods.GIFT", "--model.distillation_weight=0", "--model.alignment_weight=0"],
            "distillation_weight and alignment_weight are both 0",
            "model.distillation_weight and model.alignment_weight are both 0",
        ),
        (
            lambda: L2(clip=CLIPSource(name="package:datamodules.mini.clip", weights="no.pt")),
            ["--model.clip.weights", "no.pt"],
            "weights 'no.pt' does not exist",
            "model.clip.weights 'no.pt' does not exist",
        ),
    ],
)
def test_a_setting_is_named_as_its_reader_gave_it(make, flags, python, command_line) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=python) as raised:
        make()
    assert str(raised.value).startswith(python)
    status, _, err = call("fit", "--config", CONFIG, *flags)
    assert status == 2 and err.startswith(f"error: {command_line}")


def test_an_error_is_a_value_error_that_other_processes_can_raise_again() -> None:
    with naming_keys():
        error = InputError("`model.l2` is -1.0.")
        assert advice("a flag", "an argument") == "a flag"
    again = pickle.loads(pickle.dumps(error))
    assert (
        type(again) is InputError and str(again) == str(error) == "model.l2 is -1.0." and isinstance(again, ValueError)
    )
    assert str(pickle.loads(pickle.dumps(InputError("`data.steps` is 0.")))) == "steps is 0."
    assert advice("a flag", "an argument") == "an argument"


def test_other_texts_between_backquotes_stay() -> None:
    assert str(InputError("`pip install x` and `data` and `model.l2`")) == "`pip install x` and `data` and l2"
