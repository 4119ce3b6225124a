"""Capture where parts of a network run by themselves, fail, or write into their buffers; and what it refuses."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.errors import InspectionError
from cutaway.hooks import capture


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.part(self.part(x)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.relu(self.same(x)))


def test_statistics_of_a_part_that_runs_by_itself_are_of_one_turn() -> None:
    network = Whole()
    with capture(network, ["part.1", "*:relu#*"], keep="stats") as captured:
        for _ in range(20):
            network.part(torch.ones(3, 2))
            network.block(torch.ones(3, 2))
    assert set(captured.statistics) == {"part.1", "block:relu#0", "block:relu#1"}
    assert captured.statistics["part.1"].count == 20 * 6
    # In a run of the whole a layer that is called twice still has two turns.
    with capture(network, "part.1", keep="stats") as captured:
        for _ in range(3):
            network(torch.ones(3, 2))
    assert set(captured.statistics) == {"part.1", "part.1[1]"}


def test_turns_begin_anew_after_a_failure() -> None:
    network = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    with capture(network, "0.0") as captured:
        for width in (3, 2, 2):
            with contextlib.suppress(RuntimeError):
                network[0](torch.ones(1, width))
    assert [call.turn for call in captured.calls("0.0")] == [0, 0]


def test_the_inputs_of_failed_calls_do_not_pile_up() -> None:
    class Catches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fails = nn.Linear(3, 2)
            self.works = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.fails(x)
            except RuntimeError:
                return self.works(x)

    network = Catches()
    with capture(network, inputs=True) as captured:
        for _ in range(10):
            network(torch.ones(1, 2))
        hooks = [hook for hook in network.fails._forward_pre_hooks.values() if hook.__name__ == "hook"]
        (recorder,) = {cell.cell_contents for hook in hooks for cell in hook.__closure__} - {"fails"}
        assert len(recorder._pending["fails"]) == 1
    assert [call.inputs[0].tolist() for call in captured.calls("works")] == [[[1, 1]]] * 10


@pytest.mark.parametrize("reassigned", [True, False])
def test_no_graph_stays_in_buffers(reassigned: bool) -> None:
    class Averages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)
            self.register_buffer("mean", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            y = self.fc(x)
            if reassigned:
                self.mean = 0.5 * self.mean + y.mean(0)
            else:
                self.mean.mul_(0.5).add_(y.mean(0))
            return y

    network = Averages()
    with capture(network, "fc", gradients=True) as captured:
        output = network(torch.ones(3, 2))
    assert not network.mean.requires_grad
    assert torch.allclose(network.mean, output.mean(0))
    assert captured.gradient(output.sum(), "fc").tolist() == [[1, 1]] * 3


def test_a_buffer_that_is_the_captured_tensor_leaves_its_graph_alone() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)
            self.register_buffer("last", torch.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            self.last = self.fc(x)
            return self.last * 2

    network = Keeps()
    with capture(network, "fc", gradients=True) as captured:
        output = network(torch.ones(1, 2))
    assert not network.last.requires_grad
    assert captured.gradient(output.sum(), "fc").tolist() == [[2, 2]]


def test_where_only_statistics_are_kept_it_says_so() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with capture(network, keep="stats") as captured:
        network(torch.ones(1, 2))
    for read in (captured.__getitem__, captured.call, captured.calls):
        with pytest.raises(InspectionError, match="statistics only"):
            read("0")
    with pytest.raises(InspectionError, match="No layer '7'"):
        captured.calls("7")
    with pytest.raises(InspectionError, match="outputs alone"), capture(network, keep="stats", inputs=True):
        pass


def test_a_module_is_no_choice_and_its_name_is_told() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(InspectionError, match="not by the Linear") as told, capture(network, network[0]):
        pass
    assert "'0'" in str(told.value.hint)
    with pytest.raises(InspectionError) as told, capture(network, ["1", nn.ReLU()]):
        pass
    assert "no part" in str(told.value.hint)


def test_gradients_by_one_name_and_by_a_wrong_one() -> None:
    network = nn.Sequential()
    network.add_module("conv1", nn.Linear(2, 2))
    network.add_module("relu", nn.ReLU())
    with capture(network, gradients=True) as captured:
        output = network(torch.ones(1, 2)).sum()
    with pytest.raises(InspectionError, match="No layer '9'"):
        captured.gradients(output, ["9"], retain_graph=True)
    assert list(captured.gradients(output, "conv1")) == ["conv1"]
