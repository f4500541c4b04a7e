"""Checkpoints of MoE-Adapters as version 0.1.0 wrote them, converted on loading.

At first there was a tensor for each expert and router; then there were stacks, and all routers were in the optimiser.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_PART = re.compile(r"(.+\.blocks\.\w+\.\d+)\.(down|down_bias|up|up_bias|gate|spread)\.(\d+)")
_NAMES = {"spread": "gate_noise", "adapters.counts": "adapters.activation_counts"}
_NAMES["adapters.listed"] = "adapters.times_frozen"
_ROUTERS = re.compile(r"\.(gate|gate_noise)$")
_MOMENTS = ("exp_avg", "exp_avg_sq")


def stacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by their present names, those of experts and routers as stacks.

    >>> weights = {f"adapters.blocks.image.0.spread.{router}": torch.zeros(3, 2) for router in range(4)}
    >>> {name: tuple(stack.shape) for name, stack in stacked(weights).items()}
    {'adapters.blocks.image.0.gate_noise': (4, 3, 2)}
    """
    rows: dict[str, dict[int, Tensor]] = {}
    single: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        part = _PART.fullmatch(name)
        if part is None:
            single[_NAMES.get(name, name)] = tensor
        else:
            rows.setdefault(f"{part[1]}.{_NAMES.get(part[2], part[2])}", {})[int(part[3])] = tensor
    return single | {name: torch.stack([of_name[row] for row in sorted(of_name)]) for name, of_name in rows.items()}


def convert_checkpoint(checkpoint: dict[str, Any], own_routers: bool) -> None:
    """Convert an earlier checkpoint: weights, and the moments of the optimiser.

    Args:
        checkpoint: of Lightning, changed in place; a present one stays.
        own_routers: whether each task has a router, which its optimiser trained.
    """
    before, states = checkpoint["state_dict"], checkpoint["optimizer_states"]
    router = checkpoint["epoch"] if own_routers else 0  # an epoch is a task
    if "adapters.listed" in before:
        states = [_stacked_moments(state, before, router) for state in states]
        before = stacked(before)
    names = [name for name in before if name.startswith("adapters.blocks.")]
    routers = [number for number, name in enumerate(names) if _ROUTERS.search(name)]
    if not routers:
        return
    after: dict[str, Tensor] = {}
    for name, tensor in before.items():
        if _ROUTERS.search(name):
            # after the last task there is none to begin: any will do
            after |= {f"{name}.current": tensor[min(router, len(tensor) - 1)], f"{name}.finished": tensor}
        else:
            after[name] = tensor
    for state in states:
        for number in state["state"].keys() & set(routers):
            moments = state["state"][number]
            row = min(router, len(moments["step"]) - 1)
            step, of_router = moments["step"][row : row + 1], {name: moments[name][row] for name in _MOMENTS}
            state["state"][number] = {"step": step, **of_router}
    checkpoint |= {"state_dict": after, "optimizer_states": states}


def _stacked_moments(state: dict[str, Any], before: Mapping[str, Tensor], router: int) -> dict[str, Any]:
    """State of ``RowAdamW`` from that of AdamW, whose parameters were the task's experts and router, by block."""
    names = [name for name in before if _PART.fullmatch(name)]
    blocks = list(dict.fromkeys(name.rsplit(".", 2)[0] for name in names))
    trained: list[str] = []
    for block, times in zip(blocks, before["adapters.listed"].tolist(), strict=True):
        experts = [expert for expert, frozen in enumerate(times) if not frozen]
        parts = ("down", "down_bias", "up", "up_bias")
        trained += [f"{block}.{part}.{expert}" for expert in experts for part in parts]
        trained += [f"{block}.{part}.{router}" for part in ("gate", "spread") if f"{block}.{part}.{router}" in before]
    moments = {name: state["state"][number] for number, name in enumerate(trained) if number in state["state"]}
    stacks: dict[str, dict[str, Tensor]] = {}
    for key in ("step", *_MOMENTS):
        rows = {name: moments[name][key] if name in moments else _nothing(key, before[name]) for name in names}
        for stack, tensor in stacked(rows).items():
            stacks.setdefault(stack, {})[key] = tensor
    groups = [{**state["param_groups"][0], "params": list(range(len(stacks)))}]
    return {"state": dict(enumerate(stacks.values())), "param_groups": groups}


def _nothing(key: str, weight: Tensor) -> Tensor:
    return torch.zeros(()) if key == "step" else torch.zeros_like(weight)
