from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.hooks.operations import OperationCall, watch_operations


class Block(nn.Module):
    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.relu = nn.ReLU()
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(x), inplace=self.inplace)
        if self.inplace:
            y += x
            y.relu_()
        else:
            y = y + x
            y = torch.relu(y)
        assert y.shape[0] == len(y)
        return self.relu(y)


class Net(nn.Module):
    def __init__(self, *, inplace: bool = False) -> None:
        super().__init__()
        self.block = Block(inplace=inplace)
        self.fc = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.block(x))
        x = 1 - F.adaptive_avg_pool2d(x, 1)
        return self.fc(torch.flatten(x, 1)[:, :2])


def names(network: nn.Module, **options: bool) -> list[str]:
    found: list[OperationCall] = []
    with watch_operations(network, found.append, **options):
        network(torch.randn(1, 2, 4, 4))
    return [call.name for call in found]


@pytest.mark.parametrize("inplace", [False, True])
def test_operations_are_named_by_module_name_and_number_of_the_call(inplace: bool) -> None:
    block = ["block:relu#0", "block:add#0", "block:relu#1"]
    head = [":adaptive_avg_pool2d#0", ":sub#0", ":flatten#0", ":getitem#0"]
    assert names(Net(inplace=inplace)) == [*block, *block, *head]


def test_what_leaves_do_is_reported_where_asked() -> None:
    assert [name for name in names(Net(), inside_leaves=True) if name.startswith(("fc", "block.conv"))] == [
        "block.conv:conv2d#0",
        "block.conv:conv2d#0",
        "fc:linear#0",
    ]
    # The network itself is no leaf, or nothing would be seen of one that has no modules.
    bare = nn.Module()
    bare.forward = lambda x: F.gelu(x)  # type: ignore[method-assign]
    assert names(bare) == [":gelu#0"]


def test_inputs_outputs_and_replacing_them() -> None:
    network = Net().eval()
    image = torch.randn(1, 2, 4, 4)

    def zeroed(call: OperationCall) -> Tensor | None:
        if call.name != ":flatten#0":
            return None
        assert (call.args[1], call.output.shape) == (1, (1, 2))
        return torch.zeros_like(call.output)

    with watch_operations(network, zeroed):
        assert torch.equal(network(image), network.fc.bias[None])
    assert not torch.equal(network(image), network.fc.bias[None])


def test_nothing_is_left_behind_by_a_network_that_raises() -> None:
    network = Net()
    found: list[OperationCall] = []
    with pytest.raises(RuntimeError), watch_operations(network, found.append):
        network(torch.randn(1, 3, 4, 4))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    with watch_operations(network, found.append):
        with pytest.raises(RuntimeError):
            network(torch.randn(1, 3, 4, 4))
        network(torch.randn(1, 2, 4, 4))
        torch.ones(2) + 1
    assert [call.name for call in found] == names(network)


def test_operators_go_by_the_names_of_torchs_functions() -> None:
    class Operators(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            _ = 1 - x, 2 / x, 2**x, x // 2, 5 % x
            mask = ~(x > 0)
            mask &= mask | (mask ^ mask)
            return x

    seen: list[str] = []
    network = Operators()
    with watch_operations(network, lambda call: seen.append(call.operation)):
        network(torch.ones(2))
    arithmetic = ["sub", "div", "pow", "floor_divide", "remainder"]
    assert seen == [*arithmetic, "gt", "bitwise_not", "bitwise_xor", "bitwise_or", "bitwise_and"]
