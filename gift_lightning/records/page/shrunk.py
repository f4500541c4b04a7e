"""Pictures that a run has drawn, with fewer bytes for the page."""

import io
from pathlib import Path

from PIL import Image

from gift_lightning.records.page.section import Picture

_WIDEST = 1000  # pixels


def shrunk(path: Path, alt: str, title: str) -> Picture | None:
    """A PNG of a run as WebP, a fifth of the bytes; ``None`` if it is missing or damaged."""
    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((_WIDEST, 4 * _WIDEST))
            small.save(buffer, format="WEBP", quality=70)
    except OSError:
        return None
    return Picture(buffer.getvalue(), alt, title=title)
