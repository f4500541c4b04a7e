"""The two pictures of the page in the README, taken by Chromium from the page of the quickstart::

make quickstart
python scripts/screenshots.py runs/report.html docs
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

WIDTH, HEIGHT = 1600, 3200
PARTS = {
    "report.png": ("1", (0, 0, 1600, 1365)),  # light: the tables and the scatter
    "report_dark.png": ("0", (270, 1360, 1600, 2526)),  # dark: the curves of the tasks and the matrices
}
"""By file: the colour scheme as Chromium counts it, and the part of the page (left, top, right, bottom)."""


def take(page: Path, out: Path, scheme: str, part: tuple[int, int, int, int]) -> None:
    """Write one part of the page as a PNG."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "page.png")
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--blink-settings=preferredColorScheme={scheme}", f"--window-size={WIDTH},{HEIGHT}"]
        command += ["--virtual-time-budget=10000", f"--screenshot={whole}", page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        with Image.open(whole) as picture:
            picture.crop(part).convert("RGB").quantize(256).save(out, optimize=True)


def main() -> None:
    """Take both pictures."""
    parser = argparse.ArgumentParser(description="Pictures of the page for the README.")
    parser.add_argument("page", type=Path, help="as in runs/report.html")
    parser.add_argument("folder", type=Path, help="of the pictures, as in docs")
    options = parser.parse_args()
    for name, (scheme, part) in PARTS.items():
        take(options.page, options.folder / name, scheme, part)


if __name__ == "__main__":
    main()
