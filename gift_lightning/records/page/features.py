"""The section of the page on the space of features."""

from collections.abc import Sequence

from gift_lightning.records.page.groups import title_of
from gift_lightning.records.page.section import ReportedRun, Section
from gift_lightning.records.page.shrunk import shrunk
from gift_lightning.records.run_folder import RunFolder

MOST_RUNS = 4
"""Runs with a picture, which has about a hundred kilobytes."""


def features_section(runs: Sequence[ReportedRun]) -> Section | None:
    """The section, of the first runs for which the command ``features`` has drawn a picture; ``None`` without any."""
    found = []
    for run in runs:
        folder = RunFolder.at(run.folder)
        if folder.features_png.is_file():
            label = title_of(run)
            found.append(shrunk(folder.features_png, f"The space of features of {label}", label))
    parts = [picture for picture in found if picture is not None]
    if not parts:
        return None
    note = "The same test images under each model of a run, in the plane of one t-SNE, so that a place means the same"
    note += " in each panel. Colours are classes, marks are tasks. The places are in `features.csv` of a run."
    if len(parts) > MOST_RUNS:
        note += f" The first {MOST_RUNS} of {len(parts)} runs are shown."
    return Section("The space of features", note, parts[:MOST_RUNS])
