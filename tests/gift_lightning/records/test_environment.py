"""What a run writes down of the machine."""

import sys

import torch

from gift_lightning.records.environment import environment, machine, peak_memory, versions

CPU = torch.device("cpu")


def test_versions_are_those_of_what_is_installed() -> None:
    assert versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert versions()["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_environment_says_where_a_run_took_place() -> None:
    where = environment(CPU, world_size=2, precision="bf16-mixed")
    assert (where["device"], where["world_size"], where["precision"]) == ("cpu", 2, "bf16-mixed")
    assert where["float32_products"][0] == "highest"
    assert where["versions"] == versions() and where["command"] == sys.argv
    assert where["device_name"] and machine(CPU, 1).startswith(f"{where['device_name']}, {where['threads']} thread")
    assert machine(CPU, 3) == f"{machine(CPU, 1)} in each of 3 processes"


def test_the_peak_of_memory_never_falls() -> None:
    before = peak_memory(CPU)
    held = torch.ones(2**24)  # 64 MiB
    grown = peak_memory(CPU)
    assert held.sum() == 2**24 and grown >= before > 0
    del held
    assert peak_memory(CPU) >= grown
