"""The sections that say in which respects the runs differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from gift_lightning.records import published
from gift_lightning.records.logged import logged
from gift_lightning.records.page.groups import copies, data_of, grouped
from gift_lightning.records.page.section import Cells, ReportedRun, Section
from gift_lightning.records.published import Published
from gift_lightning.records.report.words import NO_NUMBER
from gift_lightning.records.run_folder import RunFolder


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
        ("steps of each task", [_setting(run, "data.steps") for run in runs]),
        ("images in a batch", [_setting(run, "data.batch_size") for run in runs]),
        ("number of learned tasks", [run.results["complete"] or len(run.results["R"]) for run in runs]),
    ):
        known = [repr(value) for value in values if value is not None]
        odd = [
            run.label for run, value in zip(runs, values, strict=True) if value is not None and repr(value) != known[0]
        ]
        if odd:
            rows.append([words, ", ".join(odd)])
    return rows


def other_clips(runs: Sequence[ReportedRun]) -> list[str]:
    """The labels of the runs whose CLIP is not that of the published results, with its name.

    Raises:
        InputError: the ``config.yaml`` of a run is damaged.
    """
    folders = [(run.label, RunFolder.at(run.folder)) for run in runs]
    clips = [
        (label, run.read_config()["model"]["init_args"]["clip"]["name"])
        for label, run in folders
        if run.config.is_file()
    ]
    return [f"{label} ({name})" for label, name in clips if not name.startswith(published.CLIP)]


def warnings(runs: Sequence[ReportedRun], theirs: Sequence[Published] = ()) -> Section | None:
    """Why numbers of the runs may not be compared, with those of ``theirs`` too; ``None`` if they may."""
    notes, parts = [], []
    if rows := differing(runs):
        notes.append(
            "These runs differ in more than the method: compare with care. This is seen in `tasks`, `protocol`"
        )
        notes.append("and `R` of each `results.json`, and in `data` of each `config.yaml`.")
        parts.append(Cells([f"Differs from {runs[0].label}", "Runs"], rows))
    if theirs and (others := other_clips(runs)):
        notes.append(f"The published results are those of {published.CLIP}: other models stand beside them here.")
        parts.append(Cells(["Runs with another CLIP"], [[other] for other in others]))
    if short := [run.label for run in runs if _is_short(run)]:
        notes.append("`metrics.csv` of a run has fewer tasks than its `results.json`: it is cut, or of another run,")
        notes.append("and the losses below are those of a part of the run.")
        parts.append(Cells(["Runs with a metrics.csv that is cut"], [[label] for label in short]))
    if pairs := [[run.label, earlier.label] for run, earlier in copies(runs)]:
        notes.append("A run with the settings and the `seed` of another one is no further seed: it has its own row.")
        parts.append(Cells(["Run", "has the seed of"], pairs))
    return Section("Warnings", " ".join(notes), parts) if parts else None


def _is_short(run: ReportedRun) -> bool:
    """Whether ``metrics.csv`` lacks the ends of tasks that ``results.json`` has."""
    return (run.folder / "metrics.csv").is_file() and len(logged(run.folder).ends) < len(run.results["R"])


def _setting(run: ReportedRun, key: str) -> str | None:
    """A setting of the training; ``None`` if it is not known, or if the run trains nothing."""
    return (run.settings or {}).get(key) if run.results.get("learns", True) else None


def _protocol(run: ReportedRun, name: str) -> Any:
    value = run.results["protocol"].get(name)
    return sorted(value.items()) if isinstance(value, Mapping) else value


def configs(runs: Sequence[ReportedRun]) -> Section | None:
    """The settings in which the methods differ; ``None`` if they do not."""
    groups = grouped(runs)
    columns = [group.runs[0].settings or {} for group in groups]
    keys = sorted({key for column in columns for key in column})
    rows = [[key, *(_shown(key, column.get(key, NO_NUMBER)) for column in columns)] for key in keys]
    different = [row for row in rows if len({*row[1:]}) > 1]
    note = "Settings of `config.yaml` that can change a number and are not the same in all runs, without the seed."
    note += " Of a class, its name alone is shown."
    table = Cells(["Setting", *(group.label for group in groups)], different)
    return Section("Settings", note, [table]) if different else None


def _shown(key: str, text: str) -> str:
    return text.rpartition(".")[2] if key.endswith("class_path") else text
