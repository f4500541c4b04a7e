"""The sections that say in which respects the runs differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from gift_lightning.records.page.groups import copies, data_of, grouped
from gift_lightning.records.page.section import Cells, ReportedRun, Section
from gift_lightning.records.report.words import NO_NUMBER


def differing(runs: Sequence[ReportedRun]) -> list[list[str]]:
    """In what the runs differ from the first one beside their method: words, and the labels of those that differ."""
    rows = []
    for words, values in (
        ("tasks or their order", [tuple(run.results["tasks"]) for run in runs]),
        ("images (protocol fingerprints)", [_protocol(run, "fingerprints") for run in runs]),
        ("images (sizes of their files)", [data_of(run)["file_sizes"] for run in runs]),
        ("starting weights", [_protocol(run, "weights") for run in runs]),
        ("label space", [_protocol(run, "label_space") for run in runs]),
        ("shots", [_protocol(run, "shots") for run in runs]),
        ("protocol id (class names and templates too)", [_protocol(run, "id") for run in runs]),
        ("steps of each task", [(run.settings or {}).get("data.steps", "") for run in runs]),
        ("number of learned tasks", [run.results["complete"] or len(run.results["R"]) for run in runs]),
    ):
        texts = list(map(repr, values))
        odd = [run.label for run, text in zip(runs, texts, strict=True) if text != texts[0]]
        if odd:
            rows.append([words, ", ".join(odd)])
    return rows


def warnings(runs: Sequence[ReportedRun]) -> Section | None:
    """Why numbers of the runs may not be compared; ``None`` if they may."""
    notes, parts = [], []
    if rows := differing(runs):
        notes.append("These runs differ in more than the method: compare with care. Compared are `tasks`, `protocol`")
        notes.append("and the number of rows of `R` in each `results.json`, and `data.steps` in each `config.yaml`.")
        parts.append(Cells([f"Differs from {runs[0].label}", "Runs"], rows))
    if pairs := [[run.label, earlier.label] for run, earlier in copies(runs)]:
        notes.append("A run with the settings and the `seed` of another one is no further seed: it has its own row.")
        parts.append(Cells(["Run", "has the seed of"], pairs))
    return Section("Warnings", " ".join(notes), parts) if parts else None


def _protocol(run: ReportedRun, name: str) -> Any:
    value = run.results["protocol"].get(name)
    return sorted(value.items()) if isinstance(value, Mapping) else value


def configs(runs: Sequence[ReportedRun]) -> Section | None:
    """The settings in which the methods differ; ``None`` if they do not."""
    groups = grouped(runs)
    columns = [group.runs[0].settings or {} for group in groups]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    rows = [[key, *(column.get(key, NO_NUMBER) for column in columns)] for key in keys]
    different = [row for row in rows if len({*row[1:]}) > 1]
    note = "Settings of `config.yaml` that are not the same in all runs; seeds, names and places are left out."
    table = Cells(["Setting", *(group.label for group in groups)], different)
    return Section("Settings", note, [table]) if different else None
