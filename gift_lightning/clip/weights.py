"""Files with the weights of a CLIP, written by this package, open_clip, OpenAI, or the authors of a method."""

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
from gift_lightning.tensors import load_tensors, read_whole, with_constants

_RUN = "clip.model."
"""Prefix of the CLIP in the state dict of a run's checkpoint."""

_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "module")
"""Keys of a state dict beside other content; an average of the weights (EMA) has other keys."""

_WITHIN = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts of names that torch.compile and other wrappers insert, also in their middle."""

_TOWERS = ("visual", "text", "transformer")

SIZES = frozenset({"input_resolution", "context_length", "vocab_size"})
"""Entries of OpenAI's state dicts that are no weights but sizes of the architecture."""

_NO_WEIGHTS = re.compile(rf"{'|'.join(sorted(SIZES))}|(.*\.)?attn_mask")

_TEXT = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
"""Beginnings of the text tower's names: beside ``visual`` in OpenAI's models, below ``text`` in others of open_clip."""

_BLOCK = r"resblocks\.\d+\.(attn\.(in_proj_|out_proj\.)|ln_[12]\.|mlp\.c_(fc|proj)\.)(weight|bias)"
_OPENAI = re.compile(
    rf"logit_scale|text_projection|positional_embedding|token_embedding\.weight|ln_final\.(weight|bias)"
    rf"|visual\.(proj|class_embedding|positional_embedding|conv1\.weight|ln_(pre|post)\.(weight|bias))"
    rf"|(visual\.)?transformer\.{_BLOCK}"
)


def is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors, by its content: a JSON header follows the eight bytes of its length.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(9)[8:] == b"{"


def read_file(path: Path, device: str = "cpu") -> Any:
    """The content of a file of safetensors, TorchScript or ``torch.save``; no code in it is run.

    Args:
        path: the file.
        device: of the tensors in a file of ``torch.save``; ``meta`` reads their names and shapes alone.

    Raises:
        InputError: the file is missing or damaged, or cannot be read without running code.
    """
    if not path.is_file():
        fault = "is a folder: name a file in it" if path.is_dir() else "does not exist"
        raise InputError(f"Weights file {path} {fault}.")
    return read_whole(path, lambda: _read(path, device))


def _read(path: Path, device: str) -> Any:
    """See ``read_file``."""
    try:
        if is_safetensors(path):
            return load_tensors(path)
        if is_torchscript(path):
            return read_torchscript(path)
        if device != "meta" and zipfile.is_zipfile(path):
            _check_sums(path)
        with torch.serialization.safe_globals([Namespace]):  # the arguments of a program: values alone
            content = torch.load(path, device, weights_only=True)
    except Exception as error:  # a damaged file raises any exception
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            raise InputError(
                f"Weights file {path} holds more than weights, and to read it would run code ({code[1]}): save the"
                " weights alone, as in torch.save({'state_dict': model.state_dict()}, path)."
            ) from error
        raise InputError(f"Weights file {path} cannot be read: it is damaged, or holds no weights.") from error
    return with_constants(content, path, device)


def _check_sums(path: Path) -> None:
    """Verify the checksums in a file of ``torch.save``, which ``torch.load`` ignores."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(damaged)


def state_in(content: Any) -> dict[str, Tensor]:
    """The state dict in the content of a file; empty if it has none.

    It may be nested under ``state_dict``, ``model`` or another usual key, beside other content (the state of an
    optimiser, the arguments of a program). From a run's checkpoint it is that of its CLIP. The prefixes and inserts of
    wrappers (``module.``, ``_orig_mod.``) are removed from the names.
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
    """The weights of a CLIP in the content of a file, with the names of open_clip or OpenAI; empty if it has none.

    See ``state_in``; entries that are no weights are left out.
    """
    return {name: tensor for name, tensor in state_in(content).items() if not _NO_WEIGHTS.fullmatch(name)}


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the weights in a file into ``model``, in the model's precision.

    Raises:
        InputError: see ``read_file``; or the file lacks a weight of the model, or has others.
    """
    state, expected = weights_in(read_file(path)), model.state_dict()
    if not state:
        raise InputError(
            f"Weights file {path} holds no weights: give a state dict, plain or under 'state_dict' or 'model'."
        )
    if "text.positional_embedding" in expected and "positional_embedding" in state:
        state = {f"text.{name}" if name.startswith(_TEXT) else name: tensor for name, tensor in state.items()}
    if "logit_scale" in state and state["logit_scale"].numel() == 1 and "logit_scale" in expected:
        state["logit_scale"] = state["logit_scale"].reshape(expected["logit_scale"].shape)
    misfit = mismatch(state, expected)
    if misfit:
        raise InputError(
            f"Weights file {path} does not fit the model: {misfit}; give weights of this model, or the model of these"
            " weights in `model.clip.name`."
        )
    model.load_state_dict(state)


def mismatch(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """The difference of two state dicts in names or shapes, as a clause; empty without one.

    Args:
        state: of a file.
        expected: of a model.
    """
    for name in expected:
        if name in state and expected[name].shape != state[name].shape:
            return f"{name} has the shape {list(state[name].shape)} and not {list(expected[name].shape)}"
    missing = [name for name in expected if name not in state]
    additional = [name for name in state if name not in expected]
    if missing:
        return f"it lacks {len(missing)} of {len(expected)} tensors, the first is {missing[0]}"
    if additional:
        return f"it has {len(additional)} tensors that the model has not, the first is {additional[0]}"
    return ""


def openai_names(model: nn.Module) -> dict[str, Tensor]:
    """The weights of an open_clip model as the state dict of the same model in OpenAI's code.

    Raises:
        InputError: OpenAI's code lacks this model: it has ViTs with QuickGELU and heads of 64 channels.
    """
    state = {name.removeprefix("text."): tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    other = next((name for name in state if not _OPENAI.fullmatch(name)), None)
    heads = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    if other is not None:
        difference = f"it has no {other}"
    elif not any(isinstance(module, QuickGELU) for module in model.modules()):
        difference = "it computes with QuickGELU, this one does not"
    elif any(head.head_dim != 64 for head in heads):
        difference = "its attention heads have 64 channels, those of this one others"
    else:
        return state
    raise InputError(f"OpenAI's code has no such CLIP ({difference}): choose a name that ends in .safetensors.")
