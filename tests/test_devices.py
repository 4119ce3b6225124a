"""The device that is chosen, on machines with GPUs that a test makes up."""

import pytest
import torch

from cutaway.devices import choose_device
from cutaway.errors import DeviceError


@pytest.fixture
def machine(monkeypatch):
    """A function that makes up the machine: the free bytes of each GPU, and whether it has Apple's."""

    def make(*free, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(free))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (free[gpu], 80))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return make


@pytest.mark.parametrize("asked", ["auto", "cuda"])
def test_the_gpu_with_the_most_free_memory_is_taken(machine, asked):
    machine(30, 70, 50)
    assert choose_device(asked) == torch.device("cuda", 1)


def test_without_one_auto_is_mps_or_the_cpu(machine):
    machine(mps=True)
    assert choose_device("auto") == choose_device("mps") == torch.device("mps")
    machine()
    assert choose_device("auto") == torch.device("cpu")


def test_what_is_named_is_taken_whatever_else_is_there(machine):
    machine(30, 70, 50)
    assert [choose_device(f"cuda:{gpu}") for gpu in range(3)] == [torch.device("cuda", gpu) for gpu in range(3)]
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("asked", ["cuda:2", "cuda:x", "mps"])
def test_what_is_not_there_is_told_with_what_is(machine, asked):
    machine(30, 70)
    with pytest.raises(DeviceError, match=asked) as caught:
        choose_device(asked)
    assert caught.value.hint == "Devices: cuda:0, cuda:1, cpu, or auto."
