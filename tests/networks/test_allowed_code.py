"""What a name in a bundle may reach in a module that a person allowed: what is written there, and nothing else."""

import itertools
import sys

import pytest
from torch import nn

from cutaway.errors import NetworkError
from cutaway.networks import NetworkSpec, OwnCode, build

SOURCE = """
import os
from functools import partial
from os import system
import torch
from torch import nn
from torchvision.models import resnet18

def small(num_classes, input_shape, bias=True):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes, bias=bias))

class Made:
    @classmethod
    def of(cls, num_classes):
        return small(num_classes, None)

without_bias = partial(small, bias=False)
shell = partial(system)
"""
_numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    name = f"allowed_models_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def made(module, factory, **arguments):
    spec = NetworkSpec(name=f"python:{module}:{factory}", num_classes=2, input_shape=(1, 8, 8), arguments=arguments)
    return build(spec, OwnCode(allowed=(module,)))


@pytest.mark.parametrize("factory", ["small", "Made.of", "without_bias"])
def test_what_the_module_defines_is_built(module, factory):
    assert isinstance(made(module, factory), nn.Sequential)


@pytest.mark.parametrize(
    "factory",
    ["os.system", "system", "torch.os.system", "shell", "small.__globals__.get", "Made.of.__func__.__globals__"],
)
def test_what_the_module_only_imports_is_refused_and_does_not_run(module, factory, tmp_path):
    with pytest.raises(NetworkError, match=r"only imports|cannot be imported"):
        made(module, factory, command=f"touch {tmp_path / 'ran'}")
    assert not (tmp_path / "ran").exists()


def test_a_factory_of_another_library_is_named_by_its_own_module(module):
    with pytest.raises(NetworkError, match=r"would run code of 'torchvision\.models\.resnet'"):
        made(module, "resnet18")
