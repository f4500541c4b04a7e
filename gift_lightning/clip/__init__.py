"""The CLIP that the methods train: an open_clip model, the loading of its weights, text without padding."""

from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.clip.model import CLIP, TEST_LOGIT_SCALE, cosine
from gift_lightning.clip.source import CLIPSource

__all__ = ["CLIP", "TEST_LOGIT_SCALE", "CLIPSource", "FrozenCopy", "cosine"]
