"""The command ``report``: finished runs side by side."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gift_lightning.commands.overview import COMMANDS, PROGRAM
from gift_lightning.console import plain_console, warn
from gift_lightning.errors import InputError, nearest
from gift_lightning.files import path_of, write_text
from gift_lightning.records import published
from gift_lightning.records.page.differences import differing, other_clips, reference
from gift_lightning.records.page.section import ReportedRun
from gift_lightning.records.report.class_tables import classes_csv, classes_terminal, classes_text
from gift_lightning.records.report.classes import class_report, missing_predictions
from gift_lightning.records.report.side_by_side import (
    check_comparable,
    csv_text,
    latex_tabular,
    markdown,
    side_by_side,
    terminal,
)
from gift_lightning.records.run_folder import RunFolder

_TEXTS = {"markdown": markdown, "latex": latex_tabular, "csv": csv_text}
_FORMATS = ("terminal", *_TEXTS, "png")


def main(argv: Sequence[str]) -> None:
    """Print the table of the run folders named in ``argv``, or write their page or pictures.

    Raises:
        InputError: a folder holds no finished run (for a page or pictures: no finished task), or the runs cannot be
            compared.
    """
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} report", description=COMMANDS["report"])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, as in runs/quickstart")
    orders = " or ".join(published.BENCHMARKS)
    parser.add_argument("--published", metavar="NAME", help=f"beside published results: {orders}")
    parser.add_argument("--format", default=_FORMATS[0], help=f"one of {', '.join(_FORMATS)}; png needs --out FOLDER")
    parser.add_argument("--out", metavar="FILE", help="write a page, as report.html; or, of png, the folder")
    parser.add_argument(
        "--baseline", metavar="LABEL", help="on the page, differences to this row, named as in its first column"
    )
    parser.add_argument("--classes", action="store_true", help="results of each class, by run.predictions")
    options = parser.parse_args(argv)
    if options.format not in _FORMATS:
        hint = nearest(options.format, _FORMATS)
        raise InputError(f"--format {options.format} is none of {', '.join(_FORMATS)}{hint}: give one of them.")
    # path_of is no type of the parser: argparse has sentences of its own for what a type refuses
    folders = [path_of(run) for run in options.runs]
    out = None if options.out is None else path_of(options.out)
    if options.format == "png" and (out is None or out.suffix == ".html"):
        raise InputError("--format png writes pictures: give their folder too, as in --out pictures.")
    if options.format == "png" and out is not None and out.suffix:
        raise InputError(f"--out {out} names a file, and png writes several: give a folder, as in --out pictures.")
    if options.format == "terminal" and out is not None and out.suffix != ".html":
        raise InputError(f"--out {out} is no page: give a name that ends in .html, or add --format png.")
    if options.format in _TEXTS and out is not None:
        raise InputError(f"--format {options.format} is printed: leave out --out, or redirect it into a file.")
    if options.baseline is not None and (out is None or options.format == "png"):
        raise InputError("--baseline is for the page: give --out report.html too.")
    if options.classes and options.published is not None:
        raise InputError("--classes is for runs alone, as published results have no classes: leave out --published.")
    if options.classes and out is not None:
        raise InputError("--classes prints tables, and a page has those of its runs by itself: leave out one of them.")
    found, console = [_results(folder, is_table=out is None) for folder in folders], plain_console()
    if out is not None:
        for path in _write(out, folders, found, options.published, options.baseline):
            console.print(path, soft_wrap=True, markup=False)
        return
    if options.classes:
        _print_classes(folders, found, options.format)
        return
    labels = _labels(folders, found)
    named = [results | {"folder": label} for label, results in zip(labels, found, strict=True)]
    comparison = side_by_side(named, options.published)
    reported = [ReportedRun(*parts) for parts in zip(labels, folders, found, map(_few_settings, folders), strict=True)]
    _warn_of_differences(reported)
    if options.published is not None:
        _warn_of_other_clips(reported)
    if options.format == "terminal":
        console.print(terminal(comparison, console.width))
    else:
        console.print(_TEXTS[options.format](comparison), soft_wrap=True)


def _print_classes(folders: Sequence[Path], finished: Sequence[dict[str, Any]], form: str) -> None:
    """The results of each class, run after run."""
    reports, console = [], plain_console()
    for label, folder, results in zip(_labels(folders, finished), folders, finished, strict=True):
        if missing := missing_predictions(folder, results):
            raise InputError(
                f"{folder} lacks predictions, as {missing[0]}: leave it out, or run it again in another folder with"
                " `run.predictions` true."
            )
        reports.append(class_report(label, folder, results))
    if form == "csv":
        console.print(classes_csv(reports), soft_wrap=True)
        return
    for folder, report in zip(folders, reports, strict=True):
        if form == "terminal":
            console.print(classes_terminal(report))
            console.print(f"Forgotten images: {RunFolder.at(folder).forgotten_png}", soft_wrap=True)
        else:
            console.print(classes_text(report, form), soft_wrap=True)


def _write(
    out: Path, folders: list[Path], found: list[dict[str, Any]], benchmark: str | None, baseline: str | None
) -> list[Path]:
    """Write the page, or the pictures into a folder; the paths of the files."""
    # Altair and SciPy take a second to import, which a table does not need
    from gift_lightning.records.page.pictures import write_pictures
    from gift_lightning.records.page.scatter import without_point
    from gift_lightning.records.page.write import page

    labels = _labels(folders, found)
    runs = [ReportedRun(*parts) for parts in zip(labels, folders, found, _settings(folders), strict=True)]
    theirs: list[published.Published] = []
    if benchmark is not None:
        for results in found:
            check_comparable(results["protocol"])
            theirs = published.all_rows(benchmark, list(results["tasks"]))
    if out.suffix != ".html":
        _warn_of_differences(runs)  # the page says it itself
        if theirs:
            _warn_of_other_clips(runs)
        if missing := without_point(runs):
            warn(f"{', '.join(missing)} without a Transfer: not in transfer_last.png.")
        return write_pictures(out, runs, theirs)
    write_text(out, page(runs, theirs, baseline))
    return [out]


def _warn_of_differences(runs: Sequence[ReportedRun]) -> None:
    for words, labels in differing(runs):
        warn(f"{labels} and {reference(runs).label} differ in more than the method ({words}): compare with care.")


def _warn_of_other_clips(runs: Sequence[ReportedRun]) -> None:
    if others := other_clips(runs):
        warn(f"Published results are those of {published.CLIP}, and not of {', '.join(others)}: compare with care.")


def _few_settings(folder: Path) -> dict[str, str]:
    """The settings by which runs of a table may differ in more than the method; none are known without a config."""
    run = RunFolder.at(folder)
    data = run.read_config().get("data") if run.config.is_file() else None
    keys = ("steps", "batch_size")
    return {f"data.{key}": str(data.get(key)) for key in keys} if isinstance(data, dict) else {}


def _labels(folders: Sequence[Path], found: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the runs: those of their folders, or whole paths if two are equal."""
    first: dict[Path, Path] = {}
    for folder in folders:
        if (path := folder.resolve()) in first:
            raise InputError(f"{first[path]} and {folder} are one run: name each run once.")
        first[path] = folder
    names = [results["folder"] for results in found]
    return names if len({*names}) == len(names) else list(map(str, folders))


def _settings(folders: Sequence[Path]) -> list[dict[str, str] | None]:
    """The settings that decide which runs are seeds of one method; ``None`` of a run without ``config.yaml``."""
    if len(folders) == 1:
        if (run := RunFolder.at(folders[0])).config.is_file():
            run.read_config()  # a damaged one is told
        return [None]
    # PyTorch and the classes of the configs take seconds to import, and a single run has none to be compared with
    from gift_lightning.runs.same_run import method_settings

    return [method_settings(run.read_config()) if run.config.is_file() else None for run in map(RunFolder.at, folders)]


def _results(folder: Path, is_table: bool) -> dict[str, Any]:
    run = RunFolder.at(folder)
    results = run.existing_results()
    if is_table or not results["R"]:
        results = run.finished_results("; --out report.html shows it as it is" if results["R"] else "")
    return results | {"folder": run.path.name}
