"""The models that a method stores between tasks, which a run reports as a part of its cost."""

from typing import Any

import pytest

from gift_lightning.clip.source import CLIPSource
from gift_lightning.methods import (
    GIFT,
    L2,
    ZSCL,
    ConDU,
    ContinualCLIP,
    Finetune,
    GIFTAblation,
    ICaRL,
    LwF,
    LwFVR,
    MoEAdapter,
    WeightAveraging,
    WiSEFT,
    ZeroShot,
)

MINI = CLIPSource("package:datamodules.mini.clip")


@pytest.mark.parametrize(
    ("method", "arguments", "copies"),
    [
        (ZeroShot, {}, 0),
        (Finetune, {}, 0),
        (Finetune, {"restart": True}, 1),
        (L2, {}, 0),
        (WiSEFT, {}, 0),
        (WiSEFT, {"start": "initial"}, 1),
        (WeightAveraging, {}, 0),
        (WeightAveraging, {"pull": 0.1}, 0),
        (GIFT, {}, 0),
        (GIFTAblation, {}, 0),
        (GIFTAblation, {"teacher": "initial"}, 1),
        (GIFTAblation, {"teacher": "wise", "consolidation": "boundary"}, 1),
        (ZSCL, {}, 1),
        (ZSCL, {"teacher": "wise"}, 1),
        (ZSCL, {"teacher": "last"}, 0),
        (LwF, {}, 0),
        (LwFVR, {}, 0),
        (ICaRL, {}, 0),
        (ICaRL, {"teacher": "initial"}, 1),
        (ConDU, {}, 0),  # between tasks the CLIP is the initial one again
        (MoEAdapter, {}, 0),
    ],
)
def test_what_a_task_makes_anew_is_not_stored(
    method: type[ContinualCLIP], arguments: dict[str, Any], copies: int
) -> None:
    made = method(clip=MINI, **arguments)
    stored = [sum(parameter.numel() for parameter in copy.parameters()) for copy in made.stored_copies()]
    assert stored == [sum(parameter.numel() for parameter in made.clip.parameters())] * copies
