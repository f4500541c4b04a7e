"""Charts of the page as PNG files."""

import re
from collections.abc import Sequence
from pathlib import Path

import altair
import vl_convert

from gift_lightning.files import atomic_write
from gift_lightning.records.page.ablation import ablations
from gift_lightning.records.page.overfitting import overfitting
from gift_lightning.records.page.section import Chart, ReportedRun

PICTURES = (ablations, overfitting)
"""The sections whose charts are whole pictures."""

WIDTH = 640
"""Of a chart that is as wide as the page, in pixels before the doubling for sharp prints."""

_CONFIG = {"background": "white", "view": {"stroke": None}, "legend": {"labelFontSize": 12}}


def write_pictures(runs: Sequence[ReportedRun], folder: Path) -> list[Path]:
    """Write each chart of ``PICTURES`` into a folder, named as its section, as in ``ablations.png``; returns the files.

    A section with several charts numbers them from the second on.

    Raises:
        InputError: a file of a run is damaged, or one in the folder cannot be written.
    """
    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    files = []
    for section in filter(None, (make(runs) for make in PICTURES)):
        name = re.sub(r"\W+", "_", section.title.lower())
        charts = [part for part in section.parts if isinstance(part, Chart)]
        for number, chart in enumerate(charts, 1):
            spec = {**chart.chart.to_dict(), "config": _CONFIG}
            if spec.get("width") == "container":
                spec["width"] = WIDTH
            file = folder / (f"{name}.png" if number == 1 else f"{name}_{number}.png")
            with atomic_write(file) as temporary:
                temporary.write_bytes(vl_convert.vegalite_to_png(spec, vl_version=version, scale=2))
            files.append(file)
    return files
