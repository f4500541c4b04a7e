"""The small text-to-image model of MiniMTIL: a folder that ``StableDiffusionPipeline.from_pretrained`` reads.

It plays the part of Stable Diffusion: it has seen the general world and draws from it whatever a prompt names.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
