from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cutaway.errors import NetworkError
from cutaway.hooks import run_on_inputs, run_on_shapes


def test_networks_of_several_inputs_run_on_shapes_alone() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 3)

        def forward(self, pictures: list[Tensor], *, words: Tensor) -> Tensor:
            return pictures[0].mean((1, 2)) + self.table(words)

    network = Both()
    inputs = [torch.empty(3, 10**6, 10**6, device="meta")]
    found = run_on_inputs(network, (inputs,), {"words": torch.tensor([1, 2])}, lambda: None)
    assert (found.shape, found.device.type) == ((2, 3), "meta")
    with pytest.raises(NetworkError, match=r"inputs of the shapes \[2, 2\], \[1\]: "):
        run_on_inputs(network, ([torch.zeros(2, 2)],), {"words": torch.tensor([1])}, lambda: None)


def test_a_module_with_two_names_keeps_its_weights() -> None:
    shared, tied = nn.Linear(2, 2), nn.Linear(2, 2)
    tied.weight = shared.weight
    norm = nn.BatchNorm1d(2)
    network = nn.Sequential(shared, norm, shared, tied, norm)
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    assert run_on_shapes(network, (3, 2), lambda: None).is_meta
    assert dict(network.named_parameters()).keys() == parameters.keys()
    assert all(parameter is parameters[name] for name, parameter in network.named_parameters())
    assert all(buffer is buffers[name] for name, buffer in network.named_buffers())
    assert tied.weight is shared.weight


def test_what_a_module_keeps_of_a_run_without_values_is_forgotten() -> None:
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grid, self.seen, self.by_size = torch.ones(2), [1], {"a": 1}
            self.linear = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.grid = self.grid.to(x.device)
            self.seen.append(x)
            self.by_size[x.shape] = x
            self.fresh = x
            return self.linear(x + self.grid)

    network = Caching()
    grid, seen, by_size = network.grid, network.seen, network.by_size
    assert run_on_shapes(network, (3, 2), lambda: None).is_meta
    assert network.grid is grid
    assert network.seen is seen
    assert seen == [1]
    assert network.by_size is by_size
    assert by_size == {"a": 1}
    assert not hasattr(network, "fresh")
    assert network(torch.zeros(1, 2)).shape == (1, 2)
