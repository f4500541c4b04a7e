"""The methods: one file each, named after the method."""

from gift_lightning.methods.base import ContinualCLIP
from gift_lightning.methods.condu import ConDU
from gift_lightning.methods.finetune import Finetune
from gift_lightning.methods.gift import GIFT
from gift_lightning.methods.gift_ablation import GIFTAblation
from gift_lightning.methods.icarl import ICaRL
from gift_lightning.methods.l2 import L2
from gift_lightning.methods.lwf import LwF
from gift_lightning.methods.lwf_vr import LwFVR
from gift_lightning.methods.moe_adapter import MoEAdapter
from gift_lightning.methods.weight_averaging import WeightAveraging
from gift_lightning.methods.wise_ft import WiSEFT
from gift_lightning.methods.zero_shot import ZeroShot
from gift_lightning.methods.zscl import ZSCL
from gift_lightning.methods.zscl_ablation import ZSCLAblation

__all__ = [
    "GIFT",
    "L2",
    "ZSCL",
    "ConDU",
    "ContinualCLIP",
    "Finetune",
    "GIFTAblation",
    "ICaRL",
    "LwF",
    "LwFVR",
    "MoEAdapter",
    "WeightAveraging",
    "WiSEFT",
    "ZSCLAblation",
    "ZeroShot",
]
