"""Whether all that a method learned is kept for those who predict with it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from callbacks.task_callback import Module
from gift_lightning.errors import InputError
from gift_lightning.methods.base import ContinualCLIP, FrozenCopy

_CLIP = "clip."
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Learned:
    """Compares a module with what it was when the first task began.

    What has changed since then, or was made since then, has been learned, and must be found again by ``load`` and
    ``test``: the weights of the CLIP are kept by themselves if ``knowledge()`` is empty; all else must be in
    ``knowledge()``, by its name or its content. Left out are frozen copies and what the method names in
    ``not_in_knowledge``.

    Attributes:
        start: a checksum of each tensor when the first task began; empty before.
    """

    def __init__(self) -> None:
        self.start: dict[str, int] = {}

    def begin(self, module: Module) -> None:
        """Remember the module as it is before the first step.

        Raises:
            InputError: it is about to learn something that it has no way to keep.
        """
        state = dict(_tensors(module))
        self.start = {name: _checksum(tensor) for name, tensor in state.items()}
        if type(module).knowledge is ContinualCLIP.knowledge:
            trained = {id(parameter) for parameter in module.trained_parameters()}
            for name, parameter in module.named_parameters():
                if name in state and not name.startswith(_CLIP) and id(parameter) in trained:
                    raise _lost(module, name, "learns")

    def check(self, module: Module) -> None:
        """To be called after a task.

        Raises:
            InputError: something that was learned would be lost.
        """
        if not self.start:
            return
        knowledge = module.knowledge()
        kept = {(tensor.numel(), _checksum(tensor)) for tensor in knowledge.values()}
        for name, tensor in _tensors(module):
            checksum = _checksum(tensor)
            by_name = any(key == name or key.endswith(f".{name}") for key in knowledge)
            if self.start.get(name) == checksum or by_name or (tensor.numel(), checksum) in kept:
                continue
            if not name.startswith(_CLIP):
                raise _lost(module, name, "learned")
            if knowledge:
                raise InputError(
                    f"{type(module).__name__} changed {name}, which is not in its knowledge(), and what is there takes"
                    " the place of the CLIP's weights: return these from it too, or set them back in on_task_end."
                )


def _tensors(module: Module) -> Iterator[tuple[str, Tensor]]:
    """What is in a checkpoint of a module, without frozen copies and what only training needs."""
    copies = [name for name, part in module.named_modules() if isinstance(part, FrozenCopy)]
    left_out = tuple(f"{name}." for name in [*copies, *module.not_in_knowledge])
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor) and not f"{name}.".startswith(left_out):
            yield name, tensor


def _checksum(tensor: Tensor) -> int:
    """The sum of all bits, as integers: the same on every device."""
    flat = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    flat = flat.detach().contiguous().flatten()
    return int(flat.view(_INTEGERS[flat.element_size()]).sum(dtype=torch.int64))


def _lost(module: Module, name: str, verb: str) -> InputError:
    return InputError(
        f"{type(module).__name__} {verb} {name} beside the CLIP, and a model that is loaded from the run would have it"
        " anew: return it from knowledge() and take it over in load_knowledge(), or name it in not_in_knowledge if only"
        " training needs it."
    )
