"""Whether all tensors that a method learned are saved for those who predict with it."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torchmetrics import Metric

from callbacks.method import Method
from gift_lightning.clip.frozen_copy import FrozenCopy
from gift_lightning.errors import InputError
from gift_lightning.tensors import crc32_of

_CLIP = "clip."
_OF_TORCH = {"_parameters", "_buffers", "_modules"}
"""Attributes of a module that its state dict and its buffers cover."""


class Learned:
    """Compares a method with its state when the first task began.

    A tensor that has changed or was made since then has been learned, and ``load`` and ``test`` need it: the weights of
    the CLIP are saved by themselves if ``knowledge()`` is empty; all other tensors must be in ``knowledge()``, by name
    or content. That is parameters, buffers, and tensors and modules in attributes, also in lists and dictionaries. Left
    out are frozen copies, metrics, and the names in ``not_in_knowledge`` of the method and of its base classes.

    Attributes:
        start: a checksum of each tensor when the first task began; empty before.
    """

    def __init__(self) -> None:
        self.start: dict[str, int] = {}

    def begin(self, method: Method) -> None:
        """Remember the state before the first step.

        Raises:
            InputError: see ``check_trained``.
        """
        check_trained(method)
        self.start = {name: crc32_of(tensor) for name, tensor in _tensors(method)}

    def check(self, method: Method) -> None:
        """To be called after a task.

        Raises:
            InputError: something that was learned would be lost.
        """
        if not self.start:
            return
        knowledge = method.knowledge()
        contents = {(tensor.numel(), crc32_of(tensor)) for tensor in knowledge.values()}
        endings = {ending for key in knowledge for ending in _endings(key)}
        for name, tensor in _tensors(method):
            checksum = crc32_of(tensor)
            if self.start.get(name) == checksum or name in endings or not knowledge.keys().isdisjoint(_places(name)):
                continue
            if (tensor.numel(), checksum) in contents:
                continue
            if not name.startswith(_CLIP):
                raise _lost(method, name, "learned")
            if knowledge:
                raise InputError(
                    f"{type(method).__name__} changed {name}, which is not in its knowledge(), and knowledge() takes"
                    " the place of the CLIP's weights: return these from it too, or set them back in on_task_end."
                )


def check_trained(method: Method) -> None:
    """Whether the method can keep the parameters that it trains; nothing has to be trained to know.

    Raises:
        InputError: it trains some beside the CLIP and has no ``knowledge``.
    """
    if method.has_knowledge:
        return
    trained = {id(parameter) for parameter in method.trained_parameters()}
    for name, tensor in _tensors(method):
        if id(tensor) in trained and not name.startswith(_CLIP):
            raise _lost(method, name, "learns")


def _endings(name: str) -> Iterator[str]:
    """``a.b.c``, ``b.c`` and ``c``: names of a tensor in modules around it."""
    yield name
    while "." in name:
        yield (name := name.partition(".")[2])


def _places(name: str) -> Iterator[str]:
    """``a.b`` and ``a``: the lists and modules that the tensor ``a.b.c`` is in."""
    while "." in name:
        yield (name := name.rpartition(".")[0])


def _tensors(method: Method) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a method that have to be saved if they change, once each."""
    unused = [name for name, module in method.named_modules() if isinstance(module, (FrozenCopy, Metric))]
    declared = [name for kind in type(method).__mro__ for name in vars(kind).get("not_in_knowledge", ())]
    left_out = tuple(f"{name}." for name in [*unused, *declared])
    seen: dict[int, Tensor] = {}  # alive, or another tensor might get the same id
    for name, tensor in _all_tensors(method):
        if id(tensor) not in seen and not f"{name}.".startswith(left_out):
            yield name, tensor
        seen[id(tensor)] = tensor


def _all_tensors(method: Method) -> Iterator[tuple[str, Tensor]]:
    state = method.state_dict(keep_vars=True)
    yield from ((name, tensor) for name, tensor in state.items() if isinstance(tensor, Tensor))
    for place, module in method.named_modules():
        prefix = f"{place}." if place else ""
        if prefix.startswith(_CLIP):  # beside its weights an architecture has nothing but caches
            continue
        for name, buffer in module.named_buffers(recurse=False):
            yield prefix + name, buffer
        for name, value in vars(module).items():
            if name not in _OF_TORCH:
                yield from _inside(value, prefix + name, ())


def _inside(value: Any, name: str, above: tuple[int, ...]) -> Iterator[tuple[str, Tensor]]:
    """The tensors in an attribute, by the name of the attribute and their place in it."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, (FrozenCopy, Metric)) or id(value) in above:
        return
    elif isinstance(value, nn.Module):  # in a list, so that torch does not see it
        yield from _inside(value.state_dict(keep_vars=True), name, (*above, id(value)))
    elif isinstance(value, (Mapping, list, tuple)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _inside(item, f"{name}.{key}", (*above, id(value)))


def _lost(method: Method, name: str, verb: str) -> InputError:
    return InputError(
        f"{type(method).__name__} {verb} {name} beside the CLIP, and a model that is loaded from the run would have it"
        " anew: return it from knowledge() and take it over in load_knowledge(), or name it in not_in_knowledge if only"
        " training needs it."
    )
