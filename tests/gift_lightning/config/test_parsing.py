"""Functions of jsonargparse that are replaced while settings are read, and restored."""

import threading
from typing import Any

import pytest
from jsonargparse import _core, _typehints

from gift_lightning.config.parsing import make_subclass

MET: list[tuple[Any, ...]] = []


def functions() -> tuple[Any, ...]:
    return _typehints.adapt_typehints, _typehints.import_object, _core.omegaconf_apply


class Witness:
    """Notes which functions the parser has while it makes an object."""

    def __init__(self, wrong: bool = False, nested: bool = False) -> None:
        MET.append(functions())
        if nested:
            make_subclass(Witness, "inner", {"class_path": f"{__name__}.Witness"})
            MET.append(functions())
        if wrong:
            raise ValueError("wrong")


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    """The functions before: others than ours, whatever command ran in this process."""
    MET.clear()
    for module, name in ((_typehints, "adapt_typehints"), (_typehints, "import_object"), (_core, "omegaconf_apply")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("not replaced"))
    return functions()


def make(**arguments: Any) -> None:
    make_subclass(Witness, "outer", {"class_path": f"{__name__}.Witness", "init_args": arguments})


def test_they_are_restored_also_after_an_error_and_one_within_another(theirs: tuple[Any, ...]) -> None:
    make(nested=True)
    assert functions() == theirs
    with pytest.raises(BaseException, match="wrong"):
        make(wrong=True)
    assert functions() == theirs
    assert len(MET) == 4 and len({*MET}) == 1 and MET[0] != theirs


def test_threads_take_turns(theirs: tuple[Any, ...]) -> None:
    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert functions() == theirs
    assert len(MET) == 8 and len({*MET}) == 1
