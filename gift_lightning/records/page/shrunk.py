"""Pictures that a run has drawn, with fewer bytes for the page."""

import io
from pathlib import Path

from PIL import Image

from gift_lightning.records.page.section import Picture


def shrunk(path: Path, alt: str, caption: str) -> Picture | None:
    """A PNG of a run as WebP of the same size, a quarter of the bytes; ``None`` if it is missing or damaged."""
    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.convert("RGB").save(buffer, format="WEBP", quality=80)
    except OSError:
        return None
    return Picture(buffer.getvalue(), alt, caption)
