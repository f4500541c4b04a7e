"""The section of the page on the space of features."""

from collections.abc import Sequence

from gift_lightning.records.page.groups import title_of
from gift_lightning.records.page.section import ReportedRun, Section, first_of
from gift_lightning.records.page.shrunk import shrunk
from gift_lightning.records.run_folder import RunFolder

MOST_RUNS = 4
"""Runs with a picture, which has about a hundred kilobytes."""


def features_section(runs: Sequence[ReportedRun]) -> Section | None:
    """The section, of the first runs for which the command ``features`` has drawn a picture; ``None`` without any.

    Raises:
        InputError: such a picture is damaged.
    """
    found = [(title_of(run), RunFolder.at(run.folder).features_png) for run in runs]
    found = [(label, path) for label, path in found if path.is_file()]
    parts = [shrunk(path, f"The space of features of {label}", label) for label, path in found[:MOST_RUNS]]
    note = "The same test images under each model of a run, in the plane of one projection, so that a place means the"
    note += " same in each panel. Colours are classes, marks are tasks. The places are in `features.csv` of a run."
    note += first_of(len(parts), len(found), "runs")
    return Section("The space of features", note, [part for part in parts if part]) if parts else None
