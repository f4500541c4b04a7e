"""Pictures that a run has drawn, with fewer bytes for the page."""

import io
from pathlib import Path

from PIL import Image

from gift_lightning.errors import InputError
from gift_lightning.records.page.section import Picture


def shrunk(path: Path, alt: str, title: str, widest: int = 1000) -> Picture | None:
    """A PNG of a run as WebP of at most ``widest`` pixels, a fifth of the bytes; ``None`` if it is missing.

    Raises:
        InputError: the file is damaged or cannot be read.
    """
    if not path.is_file():
        return None
    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
    except Exception as error:  # each format of Pillow raises its own exceptions
        raise InputError(f"{path} is damaged, or cannot be read: restore or delete it.") from error
    small.thumbnail((widest, 4 * widest))
    small.save(buffer, format="WEBP", quality=70)
    return Picture(buffer.getvalue(), alt, title=title)
