"""Folders that would be imported in the place of our packages; this module imports nothing heavy."""

from importlib.util import find_spec
from pathlib import Path


def stray_package() -> str | None:
    """What to tell if a folder named like one of our packages, in the current directory for instance, hides it."""
    home = Path(__file__).resolve().parent.parent
    for package in ("callbacks", "datamodules"):
        spec = find_spec(package)
        found = (spec.submodule_search_locations or [spec.origin or ""]) if spec else [""]
        place = Path(next(iter(found))).resolve()
        if place != home / package:
            return f"{place} hides the package '{package}' of gift-lightning: run from another folder."
    return None
