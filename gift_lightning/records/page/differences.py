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


def reference(runs: Sequence[ReportedRun]) -> ReportedRun:
    """The run to which ``differing`` compares the others: the first one that learns, else the first one."""
    return next((run for run in runs if _learns(run)), runs[0])


def differing(runs: Sequence[ReportedRun]) -> list[list[str]]:
    """In what runs differ from their ``reference`` beside the method: words, and the labels of those that differ."""
    first, rows = reference(runs), []
    for words, value in (
        ("tasks or their order", lambda run: tuple(run.results["tasks"])),
        ("images (protocol fingerprints)", lambda run: _protocol(run, "fingerprints")),
        ("images (sizes of their files)", lambda run: data_of(run)["file_sizes"]),
        ("starting weights", lambda run: _protocol(run, "weights")),
        ("label space", lambda run: _protocol(run, "label_space")),
        ("shots", lambda run: _protocol(run, "shots")),
        ("protocol id (class names and templates too)", lambda run: _protocol(run, "id")),
        ("steps of each task", lambda run: _trained_with(run, first, "data.steps")),
        ("images in a batch", lambda run: _trained_with(run, first, "data.batch_size")),
        ("number of learned tasks", lambda run: run.results["complete"] or len(run.results["R"])),
    ):
        odd = [run.label for run in runs if repr(value(run)) != repr(value(first))]
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
        parts.append(Cells([f"Differs from {reference(runs).label}", "Runs"], rows))
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


def _learns(run: ReportedRun) -> bool:
    return bool(run.results.get("learns", True))


def _trained_with(run: ReportedRun, first: ReportedRun, key: str) -> str:
    """A setting of the training; of a run that trains nothing, that of ``first``: it does not differ."""
    return ((run if _learns(run) else first).settings or {}).get(key, "")


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
