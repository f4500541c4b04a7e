"""The small text-to-image model of MiniMTIL: a folder that ``StableDiffusionPipeline.from_pretrained`` reads.

It takes the place of Stable Diffusion: trained on the general world, it draws the classes of that world.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
"""The pipeline's folder."""
