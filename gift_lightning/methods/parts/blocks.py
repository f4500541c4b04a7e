"""The blocks of a CLIP, and hooks that add an output to each."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gift_lightning.errors import InputError


class Block:
    """A block of a tower, as open_clip and timm build them.

    In a transformer the addition is a function of the input of the second normalisation, after the attention: it works
    beside the MLP. In a convolutional tower, whose blocks have no second normalisation, it is a function of the block's
    output. Both are added to the block's output.

    Hooks, and no module around the block: the CLIP's parameters keep their names, and its modules their attributes.

    Args:
        module: the block.

    Attributes:
        width: features of a token.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module, self._norm = module, _second_norm(module)
        self.width = len(self._norm.weight) if self._norm is not None else _convolutions(module)[-1].out_channels
        self._input: Tensor | None = None

    def attach(self, add: Callable[[Tensor], Tensor | None]) -> list[RemovableHandle]:
        """Add from now on ``add(x)`` for tokens ``[n, L, width]`` or a map ``[n, H, W, width]``.

        Args:
            add: gives a tensor of the shape of its input, or ``None`` to add nothing.

        Returns:
            handles whose ``remove`` ends it.
        """

        def remember(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._input = inputs[0]

        def beside(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x, self._input = self._input, None
            assert x is not None
            added = add(x)
            return output if added is None else output + added

        def after(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            added = add(output.movedim(1, -1))
            return output if added is None else output + added.movedim(-1, 1)

        if self._norm is None:
            return [self.module.register_forward_hook(after)]
        return [self._norm.register_forward_hook(remember), self.module.register_forward_hook(beside)]


def blocks_of(model: nn.Module, tower: str) -> list[Block]:
    """The blocks of a tower, "image" or "text", of an open_clip model.

    Raises:
        InputError: it has none of a known kind.
    """
    lists = [
        module
        for name, module in model.named_modules()
        if name.startswith("visual.") == (tower == "image") and name.rsplit(".", 1)[-1] in ("resblocks", "blocks")
    ]
    blocks = [block for blocks in lists for block in blocks.children()]
    if not blocks or not all(_second_norm(block) or _convolutions(block) for block in blocks):
        raise InputError(f"The {tower} tower of this CLIP has no blocks that can take adapters: choose another CLIP.")
    return [Block(block) for block in blocks]


def _second_norm(block: nn.Module) -> Any:
    return getattr(block, "ln_2", getattr(block, "norm2", None)) if hasattr(block, "attn") else None


def _convolutions(block: nn.Module) -> list[nn.Conv2d]:
    return [module for module in block.modules() if isinstance(module, nn.Conv2d)]
