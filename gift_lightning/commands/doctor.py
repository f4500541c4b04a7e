"""The command ``doctor``: what a run needs and has not, before it takes its turn in a queue."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from huggingface_hub import constants
from jsonargparse import ArgumentParser, Namespace
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from datamodules import SyntheticReplay, TaskSequence
from datamodules.base import Replay, Task
from datamodules.decoded import KEPT_BYTES
from datamodules.label_space import notes_on_names
from datamodules.mtil.task import MTILTask
from datamodules.replay.diffusion import DiffusionGenerator
from gift_lightning.clip.outline import outline_name
from gift_lightning.clip.source import CLIPSource
from gift_lightning.commands.estimate import Need, Size, common_folder, data_needs, image_bytes, machine_memory
from gift_lightning.commands.sources import AlexNet, CLIPWeights, Pipeline, Source
from gift_lightning.console import note, plain_console, visible
from gift_lightning.errors import InputError
from gift_lightning.files import path_of
from gift_lightning.methods import ContinualCLIP
from gift_lightning.sources import Inspection


def doctor(sequence: TaskSequence, folder: Path, config: Namespace) -> int:
    """Say what a run of this config has and lacks; returns 0 if it would begin, else 1.

    Args:
        sequence: its data.
        folder: where it would write.
        config: of the command. With ``download``, what is missing is fetched first.

    Raises:
        InputError: the settings of the method do not go together, or it cannot have this CLIP.
    """
    if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) > 0:
        return 0  # the first process does it for all
    console = plain_console()
    clip = CLIPSource(**config.model.init_args.clip)
    tasks, weights = list(dict.fromkeys(task.origin for task in sequence.tasks)), _weights(clip, sequence, config.model)
    method = _outlined(clip, config.model, sequence)  # first: a CLIP that no method takes is not fetched
    if config.download:
        _download([*(task for task in tasks if isinstance(task, MTILTask)), *weights], console)
    data, needed = [task.inspect() for task in tasks], [each.inspect() for each in weights]
    if images := sequence.replay and sequence.replay.inspect():
        needed.append(images)
    method = method or _outlined(clip, config.model, sequence)
    size = None if method is None else Size.of(method)
    if size is not None and needed[0].bytes is None:
        needed[0] = replace(needed[0], bytes=size.weights)
    _show_data(data, console)
    _show_needed(needed, console)
    settings = [] if method is None else method.notes_on_settings(sequence.known_steps())
    for sentence in [*clip.notes(), *settings, *_notes(tasks, sequence)]:
        note(sentence)
    needs = _needs(data, needed)
    if size is not None:
        needs += _needs_of_run(size, data, sequence, folder)
    short = _show_estimates(needs, size, str(config.trainer.accelerator), console)
    return _verdict(data, needed, short, console)


def _notes(tasks: Sequence[Task], sequence: TaskSequence) -> list[str]:
    """What a user should know of the data that is there."""
    there = [task for task in tasks if hasattr(task, "train_set")]
    sources: list[Task | Replay] = [*there] if sequence.replay is None else [*there, sequence.replay]
    return [sentence for source in sources for sentence in source.notes()] + notes_on_names(there, sequence.label_space)


def _weights(clip: CLIPSource, sequence: TaskSequence, model: Namespace) -> list[Source]:
    """What a run reads beside its images, the CLIP first."""
    weights: list[Source] = [CLIPWeights(clip)]
    replay = sequence.replay
    if isinstance(replay, SyntheticReplay) and isinstance(replay.generator, DiffusionGenerator):
        pipeline, images = Pipeline(replay.generator), replay.inspect()
        if images.status != "present" or not pipeline.inspect().automatic:  # not fetched if nothing is to be drawn
            weights.append(pipeline)
    if alexnet := model.init_args.get("alexnet"):
        weights.append(AlexNet(path_of(alexnet)))
    return weights


def _download(sources: Sequence[Source], console: Console) -> None:
    """Fetch what is missing and can be fetched, one after the other; one that fails keeps no other from coming."""
    for source in sources:
        found = source.inspect()
        if found.status == "present" or not found.automatic:
            continue
        console.print(f"{source.name}: fetching ({found.source})", soft_wrap=True)
        line = console.status("")
        try:
            source.download(partial(_report, line, source.name))
            fault = source.inspect().detail
        except InputError as error:
            fault = str(error)
        finally:
            line.stop()
        told, style = (fault, "red") if fault else (f"{source.name}: fetched.", "green")
        console.print(visible(told), style=style, soft_wrap=True)


def _report(line: Status, name: str, text: str) -> None:
    line.update(Text(f"{name}: {text}"))
    line.start()  # not before: the hub shows its own bars


def _outlined(clip: CLIPSource, model: Namespace, sequence: TaskSequence) -> ContinualCLIP | None:
    """The method without weights; ``None`` if its CLIP has no outline without the network."""
    if outline_name(clip.name) is None:
        return None
    parser = ArgumentParser()
    parser.add_subclass_arguments(ContinualCLIP, "model")
    with torch.device("meta"):
        method: ContinualCLIP = parser.instantiate_classes(Namespace(model=model)).model
        method.build(sequence.num_tasks, sequence.replay is not None, sequence.seed)
        return method


def _needs_of_run(size: Size, data: Sequence[Inspection], sequence: TaskSequence, folder: Path) -> list[Need]:
    """What a run writes."""
    needs = [Need("checkpoints and weights", size.checkpoints(sequence.num_tasks), folder)]
    if sequence.cache is not None:
        counts = [counted[1] for each in data if (counted := each.expected or each.found)]
        files = sum(count * size.image for count in counts if count * size.image > KEPT_BYTES)
        folder = path_of(sequence.cache)
        files -= sum(file.stat().st_size for file in folder.glob("*")) if folder.is_dir() else 0
        needs += [Need("decoded test images", files, folder)] if files > 0 else []
    return needs


def _needs(data: Sequence[Inspection], needed: Sequence[Inspection]) -> list[Need]:
    """What takes room before a run and in its replay, as far as its size is known."""
    needs, found = data_needs(data), {each.name: each for each in needed}
    cache = Path(constants.HF_HUB_CACHE)
    fetched = [each for each in needed if each.status != "present" and each.automatic]
    needs += [Need(each.name, each.bytes, each.where or cache) for each in fetched if each.bytes]
    images, pipeline = found.get("replay images"), found.get("text to image")
    if pipeline and images and images.status == "left to fit" and images.found and images.expected and images.where:
        missing = images.expected[0] - images.found[0]
        one = image_bytes(pipeline.where if pipeline.status == "present" else None)
        needs += [Need(f"{missing} replay images", missing * one, images.where)] if missing else []
    return needs


# --- what is printed --------------------------------------------------------------------------------------------------


_READY = {"present": "green", "left to fit": "yellow"}
"""The states in which a run can begin, and their colours."""


def _show_data(data: Sequence[Inspection], console: Console) -> None:
    """A line for each task, and a sentence for each that is not all right."""
    places = [each.where for each in data if each.where]
    above = common_folder(places) if places else None
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("data set", overflow="fold")
    table.add_column("state", no_wrap=True)
    for title in ("train", "test"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column(Text(visible(f"in {above}" if above else "in")), overflow="fold")
    table.add_column("download", justify="right")
    for each in data:
        where = str(each.where.absolute().relative_to(above)) if each.where and above else ""
        table.add_row(Text(each.name), _state(each.status), *_counts(each), Text(visible(where)), _offer(each))
    console.print(table)
    _show_sentences([(each.name, _advice(each)) for each in data if each.status != "present"], console)


def _show_needed(needed: Sequence[Inspection], console: Console) -> None:
    """The same for weights and for images that are replayed."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("weights and replay" if len(needed) > 1 else "weights", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("where", overflow="fold")
    table.add_column("download", justify="right")
    for each in needed:
        place = Text(visible(str(each.where or each.source or "")))
        table.add_row(each.name, _state(each.status), place, _offer(each))
    console.print()
    console.print(table)
    _show_sentences([(each.name, _advice(each)) for each in needed if each.status != "present"], console)


def _show_estimates(needs: Sequence[Need], size: Size | None, accelerator: str, console: Console) -> list[str]:
    """About how much disk and memory it takes, beside what there is; returns what there is not enough of."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("disk and memory", no_wrap=True)
    table.add_column("about", justify="right", no_wrap=True)
    table.add_column("there is", justify="right", no_wrap=True)
    table.add_column("in", overflow="fold")
    for need in needs:
        table.add_row(need.what, _bytes(need.bytes), _bytes(need.free), Text(visible(str(need.folder))))
    memory = machine_memory(accelerator)
    if size is not None and memory is not None:
        table.add_row("memory without activations", _bytes(size.memory), _bytes(memory[1]), memory[0])
    console.print()
    console.print(table)
    short = ["memory"] if size is not None and memory is not None and size.memory > memory[1] else []
    for device in dict.fromkeys(need.device for need in needs):
        together = [need for need in needs if need.device == device]
        if sum(need.bytes for need in together) > together[0].free:
            short.append(f"room on the disk of {together[0].folder}")
    return short


def _verdict(data: Sequence[Inspection], needed: Sequence[Inspection], short: Sequence[str], console: Console) -> int:
    """Print the last line; returns the exit status."""
    lacking = [each.name for each in [*data, *needed] if each.status not in _READY] + list(short)
    console.print()
    if not lacking:
        console.print(Text("A fit with this config can begin.", "green"))
        return 0
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    console.print(Text(f"A fit with this config would fail: it lacks {', '.join(lacking[:3])}{more}.", "red"))
    return 1


def _show_sentences(rows: Sequence[tuple[str, str]], console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, sentence in rows:
        table.add_row(Text(name), Text(visible(sentence)))
    if rows:
        console.print()
        console.print(table)


def _state(word: str) -> Text:
    return Text(word, _READY.get(word, "red"))


def _counts(inspection: Inspection) -> list[str]:
    """Training and test images: those found, and those expected where that is another number."""
    found, expected = inspection.found, inspection.expected
    cells = []
    for split in (0, 1):
        count = "0" if inspection.status == "missing" else str(found[split]) if found else "?"
        cells.append(count if not expected or count == str(expected[split]) else f"{count} / {expected[split]}")
    return cells


def _offer(inspection: Inspection) -> str:
    if inspection.status == "present":
        return ""
    if inspection.automatic:
        return _bytes(inspection.bytes) if inspection.bytes else ""
    return "by hand" if inspection.by_hand else ""


def _advice(inspection: Inspection) -> str:
    """What is amiss with a data set, and what to do."""
    licence = inspection.licence or "not stated"
    if inspection.status == "missing" and inspection.automatic:
        return f"{inspection.detail} Fetch it with --download (licence: {licence}; {inspection.source})."
    if inspection.status == "missing" and inspection.by_hand:
        size = f", {_bytes(inspection.bytes)}" if inspection.bytes else ""
        return f"{inspection.detail} {inspection.by_hand} Licence: {licence}{size}; {inspection.source}."
    return inspection.detail


def _bytes(count: int) -> str:
    """As ``3.2 GB``, or ``12 MB`` below one.

    >>> _bytes(2_753_340_328), _bytes(11_594_722), _bytes(400_000)
    ('2.8 GB', '12 MB', '1 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"
