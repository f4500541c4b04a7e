"""Folders that hide our packages from ``import``; this module imports nothing heavy."""

from importlib.util import find_spec
from pathlib import Path


def stray_package() -> str | None:
    """One sentence if a folder, in the current directory for instance, hides one of our packages; else ``None``."""
    home = Path(__file__).resolve().parent.parent
    for package in ("callbacks", "datamodules"):
        spec = find_spec(package)
        places = (spec.submodule_search_locations or [spec.origin or ""]) if spec else [""]
        place = Path(next(iter(places))).resolve()
        if place != home / package:
            return f"{place} hides the package '{package}' of gift-lightning: run from another folder."
    return None
