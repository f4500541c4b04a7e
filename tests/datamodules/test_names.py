"""Class names that are equal: what counts as right is told."""

from pathlib import Path

import pytest
from torch import tensor

from datamodules import ClassIncremental, ImageFolderTask, Task, TaskSequence
from datamodules.label_space import AmongTasks, notes_on_names
from datamodules.mtil.facts import FACTS
from tests.datamodules.images.test_folders import classes, write


def of_classes(name: str, *class_names: str) -> Task:
    task = Task()
    task.name, task.class_names, task.templates = name, list(class_names), ["a {}"]
    return task


def test_nothing_is_told_of_names_that_differ() -> None:
    tasks = [of_classes("A", "ant", "bee", "Strasse"), of_classes("B", "fly", "bees", "Straße")]
    assert [notes_on_names(tasks, space) for space in ("task", "seen", "all")] == [[], [], []]


def test_equal_names_within_a_task_are_told() -> None:
    tasks = [of_classes("A", "crane", "bee", "crane"), of_classes("B", "Fly", "fly")]
    assert notes_on_names(tasks, "task") == [
        f"Task '{task}' has several classes of the name {names}, which their prompts do not tell apart: the label of"
        " the image alone counts as right."
        for task, names in (("A", "'crane'"), ("B", "'Fly' or 'fly'"))
    ]


def test_equal_names_of_several_tasks_are_told_and_count_as_right() -> None:
    tasks = [of_classes("A", "cat", "ant"), of_classes("B", "cat", "Dog"), of_classes("C", "dog", "ant")]
    assert notes_on_names(tasks, "task") == []
    for space in ("seen", "all"):
        shared, cased = notes_on_names(tasks, space)
        assert shared == "'cat', 'ant': a class of several tasks, an image of which counts as right for each of them."
        assert cased.startswith("'Dog' or 'dog': classes whose names differ only in case, which a CLIP reads alike;")
    assert AmongTasks(tasks, 0).right(tensor([2, 5, 3]), tensor([0, 1, 0])).tolist() == [True, True, False]
    assert AmongTasks(tasks, 2).right(tensor([4, 3]), tensor([0, 0])).tolist() == [True, False]  # 'Dog' is another


def test_many_equal_names_are_counted() -> None:
    names = [f"class {number}" for number in range(9)]
    (told,) = notes_on_names([of_classes("A", *names), of_classes("B", *names)], "all")
    assert told.startswith("'class 0', 'class 1', 'class 2', 'class 3', 'class 4' and 4 more: a class of several tasks")


def test_a_sequence_tells_of_its_names(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, *classes("", ("ant", "bee")))
    tasks: list[Task] = [ImageFolderTask(str(tmp_path / name)) for name in ("a", "b")]
    sequence = TaskSequence(tasks, label_space="all")
    sequence.setup("validate")
    assert sequence.notes() == [
        "'ant', 'bee': a class of several tasks, an image of which counts as right for each of them."
    ]


@pytest.mark.parametrize("name", sorted(FACTS))
def test_published_class_names_are_all_different(name: str) -> None:
    assert notes_on_names([of_classes(name, *(FACTS[name].class_names or ()))], "all") == []


def test_a_step_is_named_after_its_source(tmp_path: Path) -> None:
    write(tmp_path / "Ba$$in", *classes("", ("a", "b")))
    sequence = TaskSequence([ClassIncremental(ImageFolderTask(str(tmp_path / "Ba$$in")), 1, 1)])
    assert sequence.names == ["Ba$$in_1", "Ba$$in_2"]
