"""The small CLIP that MiniMTIL starts from, as an open_clip model folder.

Importing this package registers its vision tower with timm; then ``open_clip.create_model(f"local-dir:{FOLDER}")``
builds it.
"""

from pathlib import Path

from datamodules.mini.clip.vision import mini_resnet

FOLDER = Path(__file__).parent
"""The model folder."""

__all__ = ["FOLDER", "mini_resnet"]
