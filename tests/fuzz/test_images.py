"""Damaged image files of nine kinds: refused where plain Pillow refuses them, else taken with its pixels."""

from pathlib import Path
from random import Random

import numpy as np

from datamodules.images.decoding import LARGEST_RATIO
from datamodules.images.sets import ImageFiles
from gift_lightning.errors import ImageInputError
from tests.damaging import DAMAGES, FORMATS, encoded, plain
from tests.fuzz.cases import cases

_SIZES = [(96, 72), (33, 47), (1, 1), (130, 1), (16, 200)]


@cases(60)
def test_a_damaged_file_is_taken_as_plain_pillow_takes_it(case: int, tmp_path: Path) -> None:
    rng = Random(case)
    kind = rng.choice(list(FORMATS))
    data = encoded(kind, rng.choice(_SIZES), seed=case)
    for _ in range(rng.randint(1, 3)):
        data = DAMAGES[rng.choice(list(DAMAGES))](data, rng) if len(data) > 1 else data
    file = tmp_path / f"image.{FORMATS[kind][0]}"
    file.write_bytes(data)
    expected, found, told = plain(file), None, ""
    try:
        found = ImageFiles(tmp_path, [(file.name, 0)], "Task 'birds'")[0][0]
    except ImageInputError as error:
        told = str(error)
    if (
        expected is None
        or _is_of_another_kind(expected.mode)
        or max(expected.size) > LARGEST_RATIO * min(expected.size)
    ):
        assert expected is not None or told
    else:
        assert found is not None and np.array_equal(found, expected.convert("RGB")), told
    if told:
        assert told.startswith(f"Task 'birds', image 0: {file} ") and "\n" not in told and told.endswith(".")


def _is_of_another_kind(mode: str) -> bool:
    """Pixels of more than 8 bits, of which the tests of ``datamodules/images`` tell what becomes."""
    return mode.startswith(("I", "F"))
