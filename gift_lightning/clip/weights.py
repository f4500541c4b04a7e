"""Weights of a CLIP in files, whoever wrote them: this package, open_clip, OpenAI, or the authors of a method."""

import re
import zipfile
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from gift_lightning.clip.torchscript import is_torchscript, read_torchscript
from gift_lightning.errors import InputError
from gift_lightning.tensors import load_tensors

_RUN = "clip.model."
"""Where the CLIP is in the state dict of a run's checkpoint."""

_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "module")
"""Where programs keep a state dict beside other things; an average of the weights (EMA) has other names."""

_WITHIN = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile and others put into names, also in their middle."""

_TOWERS = ("visual", "text", "transformer")

SIZES = frozenset({"input_resolution", "context_length", "vocab_size"})
"""What OpenAI's own files keep among the weights, and the architecture says anyway."""

_NO_WEIGHTS = re.compile(rf"{'|'.join(sorted(SIZES))}|(.*\.)?attn_mask")

_TEXT = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
"""Parts of the text tower, which OpenAI's models have beside ``visual``, and others of open_clip in ``text``."""

_BLOCK = r"resblocks\.\d+\.(attn\.(in_proj_|out_proj\.)|ln_[12]\.|mlp\.c_(fc|proj)\.)(weight|bias)"
_OPENAI = re.compile(
    rf"logit_scale|text_projection|positional_embedding|token_embedding\.weight|ln_final\.(weight|bias)"
    rf"|visual\.(proj|class_embedding|positional_embedding|conv1\.weight|ln_(pre|post)\.(weight|bias))"
    rf"|(visual\.)?transformer\.{_BLOCK}"
)


def is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors, whatever its name is: a header in JSON follows its own length in eight bytes."""
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def read_file(path: Path, device: str = "cpu") -> Any:
    """The content of safetensors, of a TorchScript archive, or of what ``torch.save`` wrote; no code in it is run.

    Args:
        path: the file.
        device: ``meta`` reads no tensor of what ``torch.save`` wrote, only what there is.

    Raises:
        InputError: the file is missing or damaged, or cannot be read without running code.
    """
    if not path.is_file():
        amiss = "is a folder: name a file in it" if path.is_dir() else "does not exist"
        raise InputError(f"Weights file {path} {amiss}.")
    try:
        if is_safetensors(path):
            return load_tensors(path)
        if is_torchscript(path):
            return read_torchscript(path)
        if device != "meta" and zipfile.is_zipfile(path):
            _check_sums(path)
        with torch.serialization.safe_globals([Namespace]):  # the arguments of a program: values alone
            return torch.load(path, device, weights_only=True)
    except Exception as error:  # of many kinds
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            raise InputError(
                f"Weights file {path} holds more than weights, and to read it would run code ({code[1]}): save the"
                " weights alone, as in torch.save({'state_dict': model.state_dict()}, path)."
            ) from error
        raise InputError(f"Weights file {path} cannot be read: it is damaged, or holds no weights.") from error


def _check_sums(path: Path) -> None:
    """Compare what ``torch.save`` wrote with the checksums in it, which ``torch.load`` does not."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(damaged)


def state_in(content: Any) -> dict[str, Tensor]:
    """The state dict in the content of a file; empty if there is none.

    It may lie beside other things (the state of an optimiser, the arguments of a program) under ``state_dict``,
    ``model`` or another usual name, in any nesting. Of a run's checkpoint it is that of its CLIP. What a wrapper puts
    before every name (``module.``) or into names (``_orig_mod.``) is left out.
    """
    while isinstance(content, Mapping):
        inner = (content[key] for key in _CONTAINERS if isinstance(content.get(key), Mapping))
        container = next(inner, None)
        if container is None:
            break
        content = container
    tensors = content.items() if isinstance(content, Mapping) else ()
    state = {_WITHIN.sub("", str(name)): tensor for name, tensor in tensors if isinstance(tensor, Tensor)}
    if any(name.startswith(_RUN) for name in state):  # beside frozen copies
        state = {name: tensor for name, tensor in state.items() if name.startswith(_RUN)}
    while prefix := _common_prefix(state):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _common_prefix(names: Iterable[str]) -> str:
    """The first part of all names, with its dot; empty if they differ, or it is a tower of a CLIP."""
    firsts = {name.partition(".")[0] if "." in name else "" for name in names}
    first = firsts.pop() if len(firsts) == 1 else ""
    return f"{first}." if first and first not in _TOWERS else ""


def weights_in(content: Any) -> dict[str, Tensor]:
    """The weights of a CLIP in the content of a file, with the names of open_clip or OpenAI; empty if there are none.

    See ``state_in``; what is no weight is left out.
    """
    return {name: tensor for name, tensor in state_in(content).items() if not _NO_WEIGHTS.fullmatch(name)}


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the weights in a file into ``model``, which keeps its own precision.

    Raises:
        InputError: see ``read_file``; or the weights are not those of this model, all of them and no others.
    """
    state, own = weights_in(read_file(path)), model.state_dict()
    if not state:
        raise InputError(
            f"Weights file {path} holds no weights: give a state dict, plain or under 'state_dict' or 'model'."
        )
    if "text.positional_embedding" in own and "positional_embedding" in state:
        state = {f"text.{name}" if name.startswith(_TEXT) else name: tensor for name, tensor in state.items()}
    if "logit_scale" in state and state["logit_scale"].numel() == 1 and "logit_scale" in own:
        state["logit_scale"] = state["logit_scale"].reshape(own["logit_scale"].shape)
    misfit = mismatch(state, own)
    if misfit:
        raise InputError(
            f"Weights file {path} does not fit the model: {misfit}; give the weights of this model, or name theirs"
            " in model.clip.name."
        )
    model.load_state_dict(state)


def mismatch(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> str:
    """What tells the weights in a file from those of a model; empty if they have the same names and shapes."""
    for name in here:
        if name in there and here[name].shape != there[name].shape:
            return f"{name} has the shape {list(there[name].shape)} there and {list(here[name].shape)} here"
    missing, unknown = [name for name in here if name not in there], [name for name in there if name not in here]
    if missing:
        return f"it lacks {len(missing)} of {len(here)} tensors, the first is {missing[0]}"
    return f"it has {len(unknown)} tensors that the model has not, the first is {unknown[0]}" if unknown else ""


def openai_names(model: nn.Module) -> dict[str, Tensor]:
    """The weights of an open_clip model as the state dict of the same model in OpenAI's code.

    Raises:
        InputError: OpenAI's code has no such model; it knows ViTs with QuickGELU and heads of 64.
    """
    state = {name.removeprefix("text."): tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    other = next((name for name in state if not _OPENAI.fullmatch(name)), None)
    heads = [part for part in model.modules() if isinstance(part, nn.MultiheadAttention)]
    if other is not None:
        difference = f"{other} is no part of it"
    elif not any(isinstance(part, QuickGELU) for part in model.modules()):
        difference = "it computes with QuickGELU, this one does not"
    elif any(part.head_dim != 64 for part in heads):
        difference = "its attention heads have 64 channels, those of this one others"
    else:
        return state
    raise InputError(f"OpenAI's code has no such CLIP ({difference}): choose a name that ends in .safetensors.")
