"""The settings of the small CLIP's pre-training, for the command and the model card."""

WEIGHTS = "open_clip_model.safetensors"
BATCH = 192
PEAK_RATE = 2e-3
WARM_UP = 200
DECAY = 0.4
"""Share of the steps over which the rate falls to zero."""
LARGEST_SCALE = 60.0
"""Bound of the factor on the cosine."""
