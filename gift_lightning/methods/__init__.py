"""The methods: one file each, named after the method."""

from gift_lightning.methods.base import ContinualCLIP
from gift_lightning.methods.finetune import Finetune
from gift_lightning.methods.gift import GIFT
from gift_lightning.methods.l2 import L2
from gift_lightning.methods.zero_shot import ZeroShot

__all__ = ["GIFT", "L2", "ContinualCLIP", "Finetune", "ZeroShot"]
