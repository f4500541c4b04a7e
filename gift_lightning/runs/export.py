"""The CLIP that a finished run ended with, in a file for other programs."""

from pathlib import Path

from gift_lightning.clip.source import CLIPSource
from gift_lightning.clip.weights import openai_names
from gift_lightning.errors import InputError
from gift_lightning.files import package_file
from gift_lightning.records.run_folder import RunFolder
from gift_lightning.runs.load import final_clip
from gift_lightning.tensors import save_checkpoint, save_tensors


def export(run: Path, out: Path) -> list[str]:
    """Write the final CLIP of a run as a plain state dict; returns the lines of Python that load the file.

    Args:
        run: the folder of the run.
        out: ``.safetensors`` for open_clip, ``.pth`` for OpenAI's code and for programs built on it.

    Raises:
        InputError: see ``final_clip``; ``out`` ends in neither; the run ended with more than one model; OpenAI's code
            has no such model; or the file cannot be written.
    """
    if out.suffix not in (".safetensors", ".pth"):
        raise InputError(f"--out is {out}: end it in .safetensors, or in .pth for OpenAI's code.")
    folder = RunFolder.at(run)
    source = final_clip(folder)
    if folder.knowledge.is_file():
        raise InputError(f"{run} ended with more than one model: use it with gift_lightning.load.")
    clip = source.load()
    model, metadata = clip.model, clip.origin.metadata
    if out.suffix == ".pth":
        save_checkpoint({"state_dict": openai_names(model), **metadata}, out)
        return _for_openai(out)
    save_tensors(model.state_dict(), out, metadata)
    return _for_open_clip(source, out)


def _for_openai(path: Path) -> list[str]:
    """For a model of OpenAI's code, or of a program built on it."""
    return ["import torch", f"model.load_state_dict(torch.load({str(path)!r}, weights_only=True)['state_dict'])"]


def _for_open_clip(source: CLIPSource, path: Path) -> list[str]:
    """For a model without this package, as far as that is possible."""
    made = "model, _, preprocess = open_clip.create_model_and_transforms"
    if ":" not in source.name:
        settings = "".join(f", {name}={value!r}" for name, value in source.settings().items())
        return ["import open_clip", f"{made}({source.name!r}, pretrained={str(path)!r}{settings})"]
    package = source.name.removeprefix("package:")
    name = source.name if package == source.name else f"local-dir:{package_file(source.name, 'model.clip.name')}"
    return [
        "import open_clip",
        *([f"import {package}  # its image tower"] if package != source.name else []),
        f"{made}({name!r})",
        f"open_clip.load_checkpoint(model, {str(path)!r})",
    ]
