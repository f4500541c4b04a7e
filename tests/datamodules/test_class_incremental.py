"""A data set cut into sub-tasks, few images of each class, and what images are told apart from."""

from collections import Counter
from typing import Any

import pytest
import torch

from datamodules import ClassIncremental, TaskSequence
from datamodules.class_incremental import ORDERS
from datamodules.images.selection import FewShot
from datamodules.label_space import AmongTasks
from datamodules.mini import Digits, Flags, Shapes
from gift_lightning.clip.source import CLIPSource
from gift_lightning.errors import InputError
from gift_lightning.records.protocol import protocol

# --- sub-tasks --------------------------------------------------------------------------------------------------------


def test_a_data_set_is_cut_by_the_order_of_its_classes() -> None:
    source = Flags(60, 30)
    order = list(reversed(range(len(source.class_names))))
    initial = len(order) - 5
    tasks = ClassIncremental(source, initial, increment=3, order=order, templates=["a flag of {}"]).subtasks()
    assert [task.name for task in tasks] == ["Flags_1", "Flags_2", "Flags_3"]
    for task in tasks:
        task.setup("fit")
    assert [name for task in tasks for name in task.class_names] == source.class_names[::-1]
    assert [len(task.class_names) for task in tasks] == [initial, 3, 2]
    assert sum(len(task.train_set) for task in tasks) == 60 and sum(len(task.test_set) for task in tasks) == 30
    assert tasks[1].training_prompts()[0] == f"a flag of {source.class_names[order[initial]]}"
    for task in tasks:
        for samples, whole in ((task.train_set, source.train_set), (task.test_set, source.test_set)):
            known: Any = samples
            for index, original in enumerate(known.indices):
                image, label = samples[index]
                theirs, theirs_label = whole[original]
                assert image.tobytes() == theirs.tobytes()
                assert task.class_names[label] == source.class_names[theirs_label]
                assert known.labels[index] == label


def test_without_an_order_the_labels_are_it() -> None:
    tasks = ClassIncremental(Shapes(20, 20), initial=3, increment=100).subtasks()
    tasks[0].setup("fit")
    assert tasks[0].class_names == Shapes().class_names[:3]
    assert len(tasks) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"initial": 0, "increment": 2}, "have initial 0: give at least 1 class"),
        ({"initial": 2, "increment": 2, "order": "cifar10"}, "no class order 'cifar10': give labels, or one of cifar"),
        ({"initial": 2, "increment": 2, "order": [0, 2]}, "must name each label from 0 to 1 once"),
        ({"initial": 2, "increment": 2, "order": list(range(99))}, "names 99 classes, but it has"),
    ],
)
def test_impossible_steps_are_told(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        for task in ClassIncremental(Flags(20, 20), **arguments).subtasks()[-2:]:
            task.setup("fit")


def test_published_orders_name_each_class_once() -> None:
    assert {name: len(order) for name, order in ORDERS.items()} == {"cifar100": 100, "tinyimagenet": 200}
    assert all(sorted(order) == list(range(len(order))) for order in ORDERS.values())
    tasks = ClassIncremental(Digits(), initial=100, increment=20, order="tinyimagenet").subtasks()
    assert [task.name for task in tasks] == [f"Digits_{number}" for number in range(1, 7)]


def test_two_cuts_of_the_same_data_are_told_apart() -> None:
    def prints(**arguments: Any) -> list[str]:
        tasks = ClassIncremental(Flags(20, 20), **arguments).subtasks()
        return [task.fingerprint for task in tasks if task.setup("fit") is None]

    assert prints(initial=2, increment=3) == prints(initial=2, increment=3)
    assert prints(initial=2, increment=3)[0] == prints(initial=2, increment=2)[0]
    assert prints(initial=2, increment=3)[1] != prints(initial=2, increment=2)[1]


# --- few images of each class -----------------------------------------------------------------------------------------


def sequence(**arguments: Any) -> TaskSequence:
    made = TaskSequence([Flags(60, 20), Shapes(50, 20)], batch_size=4, steps=2, **arguments)
    made.setup()
    made.setup()  # Lightning may call it more than once
    return made


def test_five_images_of_each_class() -> None:
    made = sequence(shots=3)
    for number, task in enumerate(made.tasks):
        few: Any = made.training_images.to_train(number)
        assert isinstance(few, FewShot)
        everything: Any = few.whole
        assert everything is task.train_set and few is made.training_images.to_train(number)
        wanted = {label: min(count, 3) for label, count in Counter(everything.labels).items()}
        assert Counter(few.labels) == wanted
        assert few.indices == sorted(few.indices)
        for index, original in enumerate(few.indices):
            assert few[index][1] == few.labels[index] == everything.labels[original]


def test_the_choice_depends_on_the_seed_alone() -> None:
    def chosen(**arguments: Any) -> list[list[int]]:
        made = sequence(shots=2, **arguments)
        return [made.training_images.to_train(task).indices for task in range(made.num_tasks)]  # type: ignore[attr-defined]

    assert chosen() == chosen(shuffle=False)
    assert chosen(seed=1) != chosen(seed=2)


def test_a_task_may_have_a_number_of_its_own() -> None:
    tasks = [Flags(60, 20, shots=1), Shapes(60, 20), ClassIncremental(Digits(60, 20, shots=2), 5, 5)]
    made = TaskSequence(tasks, shots=3)
    made.setup()
    most = [max(Counter(made.training_images.to_train(task).labels).values()) for task in range(4)]  # type: ignore[attr-defined]
    assert most == [1, 3, 2, 2]
    prints = protocol(made, CLIPSource("package:datamodules.mini.clip").load())["fingerprints"].values()
    assert [text.split(", ")[1] for text in prints] == ["1 shots", "3 shots", "2 shots", "2 shots"]


def test_labels_are_read_from_the_images_where_a_set_does_not_tell_them() -> None:
    pairs = [("image", label) for label in (0, 1, 0, 0, 1)]
    assert Counter(FewShot(pairs, 1, (0,)).labels) == {0: 1, 1: 1}


def test_no_shots_are_told() -> None:
    with pytest.raises(InputError, match=r"shots is 0: give at least 1 image of each class, or null for all"):
        TaskSequence([Flags()], shots=0)
    with pytest.raises(InputError, match="shots of task 'Flags' is -1: give"):
        TaskSequence([Flags(shots=-1)])


# --- label spaces -----------------------------------------------------------------------------------------------------


def test_the_classes_that_count() -> None:
    tasks = [Flags(10, 10), Shapes(10, 10), Digits(10, 10)]
    for space, learned, expected in (
        ("task", 0, [[0], [1], [2]]),
        ("all", 0, [[0, 1, 2]] * 3),
        ("all", 2, [[0, 1, 2]] * 3),
        ("seen", 0, [[0, 1, 2]] * 3),
        ("seen", 1, [[0], None, None]),
        ("seen", 2, [[0, 1], [0, 1], None]),
    ):
        made = TaskSequence(tasks, label_space=space)
        for task, among in enumerate(expected):
            candidates = made.candidates(task, learned)
            if among is None:
                assert candidates is None
                continue
            assert candidates is not None and candidates.name == tasks[task].name
            assert candidates.class_names == [name for number in among for name in tasks[number].class_names]
            assert candidates.class_prompts() == [own for number in among for own in tasks[number].class_prompts()]


def test_a_prediction_is_right_if_it_names_the_class() -> None:
    first, second = Flags(10, 10), Flags(10, 10)
    second.class_names = ["a new one", first.class_names[1]]
    among = AmongTasks([first, second], 1)
    offset = len(first.class_names)
    predicted = torch.tensor([offset, 0, 1, offset + 1])
    assert among.right(predicted, torch.tensor([0, 0, 1, 1])).tolist() == [True, False, True, True]
