"""Prompts for the classes of the general world: those of the tasks, and those of the pre-training alone.

The latter are in ``general_prompts.txt``, one a line; ``python -m datamodules.mini.prompts`` writes it.
"""

from functools import cache
from pathlib import Path

from datamodules.mini.tasks import Counting, Digits, Flags, LandUse, MiniTask, Shapes, Textures
from datamodules.mini.world import KINDS
from datamodules.mini.world.captions import article
from gift_lightning.errors import InputError, nearest
from gift_lightning.files import write_text

GENERAL_PROMPTS = Path(__file__).with_name("general_prompts.txt")
"""The file of the prompts of classes that no task has."""

_TASKS: dict[str, type[MiniTask]] = {
    "sprite": Shapes,
    "digit": Digits,
    "texture": Textures,
    "count": Counting,
    "land": LandUse,
    "flag": Flags,
}
"""The task with classes of a kind; letters have none."""


def prompts_by_kind() -> dict[str, dict[str, str]]:
    """``{kind: {class name: prompt}}`` for all classes of the world.

    A class of a task has the prompt of that task's first template, any other one the prompt in ``general_prompts.txt``.
    """
    return {kind: {name: _prompt(kind, name) for name in family.names} for kind, family in KINDS.items()}


def general_prompts() -> list[str]:
    """The prompts of all classes of the world that no task has, in the order of ``general_prompts.txt``."""
    return [
        prompt
        for kind, prompts in prompts_by_kind().items()
        for name, prompt in prompts.items()
        if not _is_of_a_task(kind, name)
    ]


def read_prompt(prompt: str) -> tuple[str, str]:
    """The kind and the class name in a prompt, of any template of the tasks.

    Raises:
        InputError: a prompt of another form, or with a class that the world lacks.
    """
    readings = _readings()
    if prompt not in readings:
        raise InputError(
            f"OracleGenerator cannot read the prompt '{prompt}'{nearest(prompt, readings)}: it draws the classes of"
            f" MiniMTIL's tasks and those in datamodules/mini/{GENERAL_PROMPTS.name}."
        )
    return readings[prompt]


def _is_of_a_task(kind: str, name: str) -> bool:
    return kind in _TASKS and name in _TASKS[kind].class_names


def _prompt(kind: str, name: str) -> str:
    if kind == "sprite" and not _is_of_a_task(kind, name):  # the task has drawings, the world photos
        return f"a photo of {article(name)}"
    return _templates(kind)[0].format(name)


def _templates(kind: str) -> list[str]:
    if kind == "letter":
        return [template.replace("digit", "letter") for template in Digits.templates]
    return _TASKS[kind].templates


@cache
def _readings() -> dict[str, tuple[str, str]]:
    """Kind and class name of each readable prompt."""
    readings = {}
    for kind, family in KINDS.items():
        for template in _templates(kind):
            for name in family.names:
                readings[template.format(name)] = (kind, name)
                readings[template.replace(" a {}", " an {}").format(name)] = (kind, name)
    return readings


if __name__ == "__main__":
    write_text(GENERAL_PROMPTS, "\n".join(general_prompts()) + "\n")
