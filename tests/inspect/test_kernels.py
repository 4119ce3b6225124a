from __future__ import annotations

import pytest
import torch
from torch import nn

from cutaway.errors import InspectionError
from cutaway.inspect.kernels import first_kernels, layer_kernels


def network() -> nn.Sequential:
    built = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.ReLU(), nn.Conv2d(3, 1, 2))
    with torch.no_grad():
        built[0].weight.copy_(torch.tensor([1.0, -2.0, 0.0]).reshape(3, 1, 1, 1))
    return built


def test_first_kernels_are_a_copy() -> None:
    net = network()
    kernels = first_kernels(net)
    assert kernels is not None
    assert (kernels.layer, kernels.weights[:, 0, 0, 0].tolist()) == ("0", [1, -2, 0])
    assert (kernels.norms.tolist(), kernels.dead) == ([1, 2, 0], [2])
    kernels.weights.zero_()
    assert net[0].weight.any()
    assert first_kernels(nn.Linear(1, 1)) is None


def test_kernels_of_a_layer_by_name() -> None:
    assert layer_kernels(network(), "2").weights.shape == (1, 3, 2, 2)
    for name in ("1", "9"):
        with pytest.raises(InspectionError, match=f"is called '{name}'") as error:
            layer_kernels(network(), name)
        assert error.value.hint == "There are 0, 2."
