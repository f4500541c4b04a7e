"""How the small CLIP is pre-trained: what the command uses and the model card tells."""

WEIGHTS = "open_clip_model.safetensors"
BATCH = 192
PEAK_RATE = 2e-3
WARM_UP = 200
DECAY = 0.4
"""Share of the steps over which the rate falls to zero."""
LARGEST_SCALE = 60.0
"""Bound of the factor on the cosine."""
