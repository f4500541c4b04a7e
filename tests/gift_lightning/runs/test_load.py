"""``gift_lightning.load`` reads runs of earlier versions, whether or not the command line is imported."""

import subprocess
import sys
from pathlib import Path

from gift_lightning.config.parsing import make_subclass
from gift_lightning.methods import ConDU, ContinualCLIP

ROOT = Path(__file__).parents[3]
OLD = "gift_lightning.low_rank.LoRA"
CLIP = {"name": "package:tests.earlier.clip"}

IN_A_FRESH_PROCESS = """
import sys
import gift_lightning
model = gift_lightning.load(sys.argv[1])
assert "gift_lightning.commands.cli" not in sys.modules
from jsonargparse import _core, _loaders_dumpers, _optionals, _typehints, _util
assert _typehints.import_object is _util.import_object
assert _typehints.adapt_typehints.__module__ == _typehints.__name__
assert _core.omegaconf_apply is _optionals.omegaconf_apply
assert "omegaconf+" not in {**_loaders_dumpers.loaders, **_loaders_dumpers.dumpers}
print(type(model).__name__)
"""


def test_a_run_loads_in_a_fresh_process_and_leaves_jsonargparse_as_it_was() -> None:
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS, str(ROOT / "tests" / "earlier" / "runs" / "gift")]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "GIFT"


def test_a_class_that_has_moved_is_found_by_its_earlier_path() -> None:
    settings = {
        "class_path": "gift_lightning.methods.ConDU",
        "init_args": {"clip": CLIP, "lora": {"class_path": OLD, "init_args": {"rank": 2}}},
    }
    model = make_subclass(ContinualCLIP, "model", settings)
    assert isinstance(model, ConDU) and model.lora is not None
