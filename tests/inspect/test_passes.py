from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.errors import InspectionError
from cutaway.inspect.passes import activation_histograms, loss_gradient_histograms, loss_gradients


class Net(nn.Module):
    """An in-place ReLU right after a layer, a function without a module, a layer that is called twice, batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Linear(2, 2, bias=False)
        self.norm = nn.BatchNorm1d(2)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
            self.second.weight.copy_(torch.eye(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        x = self.second(self.second(x))
        return torch.tanh(self.norm(x))


def test_activations_worked_out_by_hand() -> None:
    network = Net()
    batches = [torch.tensor([[1.0, 2.0], [3.0, -4.0]]), torch.tensor([[-5.0, 6.0]])]
    found = {one.name: one for one in activation_histograms(network, batches)}
    assert list(found) == ["first", "relu", "second", "norm", ":tanh#0"]
    # Before the in-place ReLU: 1, -2, 3, 4, -5, -6.
    first = found["first"]
    assert (first.smallest, first.largest, first.mean, first.shape) == (-6, 4, pytest.approx(-5 / 6), (2,))
    assert first.num_finite == 6
    # Behind it three zeros; the second layer passes on what it takes, twice.
    assert (found["relu"].zeros, found["relu"].largest) == (0.5, 4)
    assert found["second"].num_finite == 12
    assert found[":tanh#0"].largest <= 1
    only = activation_histograms(network, batches, layers=["relu"])
    assert [one.name for one in only] == ["relu"]
    assert network.training
    assert float(network.norm.num_batches_tracked) == 0
    assert not any(module._forward_hooks for module in network.modules())


def test_activations_without_a_batch_or_a_layer() -> None:
    with pytest.raises(InspectionError, match="no batch"):
        activation_histograms(Net(), [])
    with pytest.raises(InspectionError, match="no layer 'third'"):
        activation_histograms(Net(), [torch.zeros(1, 2)], layers=["third"])


def test_gradients_are_those_of_the_mean_over_all_pictures() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.ReLU(), nn.Linear(4, 2))
    network[0].bias.requires_grad_(False)
    inputs, labels = torch.randn(7, 3), torch.randint(0, 2, (7,))
    found = loss_gradients(network, [(inputs[:5], labels[:5]), (inputs[5:], labels[5:])])
    assert all(parameter.grad is None for parameter in network.parameters())
    assert network.training
    assert "0.bias" not in found
    twin = network.eval()
    F.cross_entropy(twin(inputs), labels).backward()
    for name, parameter in twin.named_parameters():
        if parameter.requires_grad:
            assert torch.allclose(found[name], parameter.grad, atol=1e-6)
    twin.zero_grad()
    histograms = loss_gradient_histograms(network, [(inputs, labels)])
    assert [one.name for one in histograms] == list(found)
    assert histograms[0].mean == pytest.approx(float(found["0.weight"].mean()), abs=1e-7)


def test_gradients_in_half_precision_add_up_over_many_batches() -> None:
    # The sum of a bfloat16 stands still at 256 times what is added.
    network = nn.Linear(2, 3, dtype=torch.bfloat16)
    batch = torch.tensor([[1.0, -2.0]], dtype=torch.bfloat16), torch.tensor([1])
    once = loss_gradients(network, [batch])
    often = loss_gradients(network, [batch] * 600)
    for name, gradient in once.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(often[name], gradient)


def test_gradients_where_there_can_be_none() -> None:
    network = nn.Linear(2, 2)
    batch = (torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))
    with torch.no_grad():
        assert set(loss_gradients(network, [batch])) == {"weight", "bias"}
    with torch.inference_mode(), pytest.raises(InspectionError, match="inference_mode"):
        loss_gradients(network, [batch])
    with pytest.raises(InspectionError, match="no pictures"):
        loss_gradients(network, [])
    with pytest.raises(InspectionError, match="requires a gradient"):
        loss_gradients(network.requires_grad_(False), [batch])


def test_layers_by_one_name_or_from_an_iterator() -> None:
    batches = [torch.ones(2, 2)]
    assert [one.name for one in activation_histograms(Net(), batches, layers="relu")] == ["relu"]
    assert [one.name for one in activation_histograms(Net(), batches, layers=iter(["relu", "first"]))] == [
        "first",
        "relu",
    ]
    with pytest.raises(InspectionError, match="no layer 'third'"):
        activation_histograms(Net(), batches, layers=iter(["third"]))


def test_a_compiled_network_shows_what_it_shows_uncompiled() -> None:
    network = Net()

    def backend(graph: torch.fx.GraphModule, example: list[Tensor]) -> object:
        pytest.fail("it was compiled")

    batches = [torch.tensor([[1.0, 2.0], [3.0, -4.0]])]
    plain = activation_histograms(network, batches)
    found = activation_histograms(torch.compile(network, backend=backend), batches)
    assert [(one.name, one.mean) for one in found] == [(one.name, one.mean) for one in plain]
    assert [one.name for one in activation_histograms(nn.DataParallel(network), batches)] == [one.name for one in plain]


def test_one_batch_in_place_of_several_is_told() -> None:
    images, labels = torch.ones(3, 2), torch.zeros(3, dtype=torch.long)
    with pytest.raises(InspectionError, match=r"Put it into a list: \[images\]"):
        activation_histograms(Net(), images)
    for one in (images, (images, labels), [images, labels]):
        with pytest.raises(InspectionError, match=r"Put it into a list: \[\(images, labels\)\]"):
            loss_gradients(Net(), one)
    assert loss_gradients(Net(), ((images, labels), (images, labels)))


def test_labels_beside_the_pictures_are_told() -> None:
    with pytest.raises(InspectionError, match=r"a list of 2\. Leave the labels out"):
        activation_histograms(Net(), [[torch.ones(3, 2), torch.zeros(3)]])
