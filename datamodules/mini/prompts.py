"""Prompts for the classes of the general world: those of the tasks, and those a model knew before any task.

The second are kept in ``general_prompts.txt``, one a line; ``python -m datamodules.mini.prompts`` writes it.
"""

from functools import cache
from pathlib import Path

from datamodules.mini.tasks import Counting, Digits, Flags, LandUse, MiniTask, Shapes, Textures
from datamodules.mini.world import KINDS
from datamodules.mini.world.captions import article
from gift_lightning.errors import InputError, nearest
from gift_lightning.files import write_text

GENERAL_PROMPTS = Path(__file__).with_name("general_prompts.txt")

_TASKS: dict[str, type[MiniTask]] = {
    "sprite": Shapes,
    "digit": Digits,
    "texture": Textures,
    "count": Counting,
    "land": LandUse,
    "flag": Flags,
}
"""The task whose classes are of a kind; letters have none."""


def class_prompts() -> dict[str, dict[str, str]]:
    """``{kind: {class name: prompt}}`` for everything the world can show.

    A class of a task has the prompt of that task's first template, any other one the prompt in ``general_prompts.txt``.
    """
    return {kind: {name: _prompt(kind, name) for name in family.names} for kind, family in KINDS.items()}


def general_prompts() -> list[str]:
    """The prompts of all classes of the world that no task has, as ``general_prompts.txt`` holds them."""
    return [
        prompt
        for kind, prompts in class_prompts().items()
        for name, prompt in prompts.items()
        if not _is_of_a_task(kind, name)
    ]


def read_prompt(prompt: str) -> tuple[str, str]:
    """The kind and the class name that a prompt asks for, in any template of the tasks.

    Raises:
        InputError: a prompt of another form, or of a class that the world cannot show.
    """
    known = _readings()
    if prompt not in known:
        raise InputError(
            f"OracleGenerator cannot read the prompt '{prompt}'{nearest(prompt, known)}: it draws the classes of"
            f" MiniMTIL's tasks and what datamodules/mini/{GENERAL_PROMPTS.name} names."
        )
    return known[prompt]


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
    """What each prompt means that can be read."""
    known = {}
    for kind, family in KINDS.items():
        for template in _templates(kind):
            for name in family.names:
                known[template.format(name)] = (kind, name)
                known[template.replace(" a {}", " an {}").format(name)] = (kind, name)
    return known


if __name__ == "__main__":
    write_text(GENERAL_PROMPTS, "\n".join(general_prompts()) + "\n")
