"""Statistics of what layers return, take and get back, over any number of batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.googlenet import GoogLeNetOutputs

from cutaway.errors import InspectionError
from cutaway.inspect import layer_statistics
from cutaway.inspect.layer_statistics import Recorded


class Net(nn.Module):
    """In-place after a layer, functions without modules, a layer called twice and one never, dropout, batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.9)
        self.idle = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.first(torch.flatten(x, 1))))
        x = self.second(self.second(x))
        return self.drop(F.elu(x))


def by_hand(network: Net, x: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All outputs, and the gradients of each picture's loss at them, out of place."""
    twin = network.eval()
    outputs = {"first": twin.first(x.flatten(1))}
    outputs["norm"] = twin.norm(outputs["first"])
    outputs["relu"] = outputs["norm"].relu()
    outputs["second"] = twin.second(outputs["relu"])
    outputs["second[1]"] = twin.second(outputs["second"])
    outputs[":elu#0"] = F.elu(outputs["second[1]"])
    outputs["drop"] = outputs[":elu#0"] * 1
    total = sum(F.cross_entropy(outputs["drop"][at : at + 1], labels[at : at + 1]) for at in range(len(x)))
    gradients = torch.autograd.grad(total, list(outputs.values()))
    network.train()
    return outputs, dict(zip(outputs, gradients, strict=True))


def test_outputs_inputs_and_gradients_are_those_of_a_network_written_out() -> None:
    torch.manual_seed(0)
    network = Net().train()
    x, labels = torch.randn(21, 2, 2), torch.arange(21) % 4
    outputs, gradients = by_hand(network, x, labels)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = layer_statistics(
        network, zip(x.split(8), labels.split(8), strict=True), parts=("outputs", "inputs", "gradients")
    )
    assert list(dict.fromkeys(one.layer for one in found)) == list(outputs)
    table = {(one.layer, one.part): one.statistics for one in found}
    inputs = dict(zip(outputs, [x.flatten(1), *list(outputs.values())[:-1]], strict=True))
    for part, oracle in (("outputs", outputs), ("inputs", inputs), ("gradients", gradients)):
        for layer, tensor in oracle.items():
            values, one = tensor.detach().double(), table[layer, part]
            assert one.count == tensor.numel()
            assert one.mean == pytest.approx(float(values.mean()), abs=1e-6)
            assert one.std == pytest.approx(float(values.std(correction=0)), rel=1e-5)
            assert one.minimum == pytest.approx(float(values.min()), abs=1e-6)
            assert one.maximum == pytest.approx(float(values.max()), abs=1e-6)
            median = float(values.flatten().sort().values[int(0.5 * (values.numel() - 1))])
            assert one.quantile(0.5) == pytest.approx(median, rel=1 / 100, abs=1e-6)
    assert table["relu", "outputs"].zeros == pytest.approx(float((outputs["relu"] == 0).double().mean()))
    assert network.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_gradients_are_the_same_in_batches_of_any_size_and_with_frozen_weights() -> None:
    torch.manual_seed(1)
    network = Net().requires_grad_(False)
    x, labels = torch.randn(12, 4), torch.arange(12) % 4
    spreads = [
        layer_statistics(network, zip(x.split(size), labels.split(size), strict=True), "norm", parts=["gradients"])
        for size in (3, 12)
    ]
    assert spreads[0][0].statistics.std == pytest.approx(spreads[1][0].statistics.std, rel=1e-5)
    assert spreads[0][0].statistics.count == 48


def test_layers_are_chosen_as_for_a_capture_and_what_is_never_called_is_told() -> None:
    network = Net()
    found = layer_statistics(network, [torch.randn(3, 4)], ["idle", "second", ":flatten#0"])
    assert [(one.layer, one.kind, one.shapes) for one in found] == [
        (":flatten#0", "flatten", ((4,),)),
        ("second", "Linear", ((4,),)),
        ("second[1]", "Linear", ((4,),)),
        ("idle", "Linear", ()),
    ]
    assert found[-1].statistics.count == 0
    assert [one.is_called for one in found] == [True, True, True, False]
    with pytest.raises(InspectionError, match="No layer 'third'"):
        layer_statistics(network, [torch.randn(3, 4)], "third")


class Masked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.masked_fill(x > 1, 0)


def test_what_returns_no_floating_point_numbers_is_left_out_unless_it_is_asked_for() -> None:
    batch = torch.tensor([[1.0, 2.0]])
    assert [one.layer for one in layer_statistics(Masked(), [batch])] == [":masked_fill#0", ""]
    (one,) = layer_statistics(Masked(), [batch], ":gt#0")
    assert (one.shapes, one.statistics.count) == (((2,),), 0)


def test_values_that_are_no_numbers_are_counted_and_left_out() -> None:
    network = nn.Sequential(nn.Identity())
    batch = torch.tensor([[1.0, float("nan")], [float("inf"), 3.0]])
    (one,) = layer_statistics(network, [batch, torch.tensor([[5.0, float("-inf")]])])
    values = one.statistics
    assert (values.count, values.num_nan, values.num_infinite) == (3, 1, 2)
    assert (values.mean, values.minimum, values.maximum) == (3, 1, 5)
    assert not values.is_finite


class Several(nn.Module):
    """A module that returns a tuple, one of them whole numbers, and takes a keyword."""

    def forward(self, x: Tensor, *, scale: Tensor) -> tuple[Tensor, Tensor]:
        return x * scale, x.argmax(1)


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.several = Several()

    def forward(self, x: Tensor) -> Tensor:
        first, _ = self.several(x, scale=torch.tensor(2.0))
        return first


def test_every_tensor_is_told_of_in_its_place() -> None:
    seen: list[Recorded] = []
    x = torch.tensor([[1.0, 2.0], [4.0, 3.0], [5.0, 6.0]])
    found = layer_statistics(Around(), [x[:2], x[2:]], "several", parts=["outputs", "inputs"], on_tensor=seen.append)
    assert [(one.part, one.shapes, one.statistics.count) for one in found] == [
        ("outputs", ((2,), ()), 6),
        ("inputs", ((2,), ()), 8),
    ]
    assert [(one.part, one.place, one.is_by_picture) for one in seen[:4]] == [
        ("outputs", 0, True),
        ("outputs", 1, True),
        ("inputs", 0, True),
        ("inputs", 1, False),
    ]
    places = np.concatenate([one.tensor.numpy() for one in seen if (one.part, one.place) == ("outputs", 1)])
    assert places.tolist() == [1, 0, 1]


def test_whole_numbers_have_no_gradients_and_are_called_all_the_same() -> None:
    pairs = [(torch.tensor([[1.0, 2.0]]), torch.tensor([0]))]
    found = layer_statistics(Masked(), pairs, [":gt#0", ":masked_fill#0"], parts=["gradients", "gradients"])
    assert [(one.layer, one.shapes, one.is_called) for one in found] == [
        (":gt#0", (), True),
        (":masked_fill#0", ((2,),), True),
    ]


class Shared(nn.Module):
    """One layer under two names, and one that is never called under two others."""

    def __init__(self) -> None:
        super().__init__()
        self.a = self.b = nn.Linear(2, 2)
        self.c = self.d = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x)


@pytest.mark.parametrize("asked", [["a", "b"], ["b"], ["b", "d"]])
def test_a_layer_of_two_names_is_told_once_under_one_that_was_asked_for(asked) -> None:
    found = layer_statistics(Shared(), [torch.randn(3, 2)], asked)
    assert [(one.layer, one.kind, one.is_called) for one in found] == [
        (asked[0], "Linear", True),
        *([("d", "Linear", False)] if "d" in asked else []),
    ]


def test_layers_whose_values_are_no_numbers_are_among_all_layers() -> None:
    network = nn.Sequential(nn.Identity(), nn.Identity())
    found = layer_statistics(network, [torch.full((2, 3), float("nan"))])
    assert [(one.layer, one.statistics.num_nan) for one in found] == [("0", 6), ("1", 6)]


def test_the_network_runs_without_autograd_but_for_gradients() -> None:
    seen: list[bool] = []
    told: list[bool] = []

    class Asking(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.is_grad_enabled())
            return super().forward(x)

    network, x = Asking(2, 2), torch.randn(3, 2)

    def on_tensor(one: Recorded) -> None:
        told.append(one.tensor.requires_grad)

    layer_statistics(network, [x], "", on_tensor=on_tensor)
    with torch.no_grad():
        # A pair as the list that a DataLoader makes.
        layer_statistics(
            network, [[x, torch.tensor([0, 1, 0])]], "", parts=["outputs", "gradients"], on_tensor=on_tensor
        )
    assert seen == [False, True]
    assert told == [False] * 3


class WithAuxiliary(nn.Linear):
    def forward(self, x: Tensor) -> GoogLeNetOutputs:
        return GoogLeNetOutputs(super().forward(x), None, None)


def test_gradients_are_of_the_main_output_where_there_are_others() -> None:
    network, x, labels = WithAuxiliary(2, 2), torch.randn(3, 2), torch.tensor([0, 1, 0])
    (one,) = layer_statistics(network, [(x, labels)], "", parts=["gradients"])
    expected = F.linear(x, network.weight, network.bias).softmax(1) - F.one_hot(labels)
    assert one.statistics.std == pytest.approx(float(expected.detach().std(correction=0)), rel=1e-5)


@pytest.mark.parametrize(
    ("batches", "parts", "said"),
    [
        (torch.zeros(2, 4), ["outputs"], "Several batches are meant"),
        ([(torch.zeros(2, 4), torch.zeros(2))], ["outputs"], "pictures alone"),
        (iter([torch.zeros(2, 4)]), ["gradients"], "a pair of pictures and labels"),
        ([], ["outputs"], "no pictures"),
        ([torch.zeros(2, 4)], [], "not nothing"),
        ([torch.zeros(2, 4)], ["weights"], "not weights"),
    ],
)
def test_what_cannot_be_looked_at_is_told_in_words(batches, parts, said) -> None:
    with pytest.raises(InspectionError, match=said):
        layer_statistics(Net(), batches, parts=parts)


def test_at_whole_numbers_there_is_no_gradient_and_that_is_said() -> None:
    pairs = [(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))]
    with pytest.raises(InspectionError, match="no gradient at layer :gt#0: it returns no floating-point numbers"):
        layer_statistics(Masked(), pairs, ":gt#0", parts=["gradients"])
