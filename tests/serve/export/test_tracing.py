"""The traced graph against the module it came from, for every batch size, whatever the network's flags say."""

import pytest
import torch
from torch import nn

from cutaway.errors import ExportError
from cutaway.inspect import class_activation_maps
from cutaway.networks.target_layers import TargetLayer
from cutaway.serve.export.graph import Explained
from cutaway.serve.export.methods import METHODS, find_method
from cutaway.serve.export.tracing import trace


def network(**changes) -> nn.Sequential:
    torch.manual_seed(0)
    layers = {
        "conv1": nn.Conv2d(3, 8, 3, stride=2),
        "norm1": nn.BatchNorm2d(8),
        "relu1": nn.ReLU(inplace=True),
        "conv2": nn.Conv2d(8, 8, 3, padding=1, groups=2),
        "relu2": nn.ReLU(inplace=True),
        "max": nn.MaxPool2d(3, 2, padding=1),
        "avg": nn.AvgPool2d(2),
        "adaptive": nn.AdaptiveAvgPool2d((3, 3)),
        "flatten": nn.Flatten(),
        "out": nn.Linear(72, 4),
    } | changes
    made = nn.Sequential()
    for name, layer in layers.items():
        made.add_module(name, layer)
    return made.eval()


def traced(net: nn.Module, target: TargetLayer, size: int = 25, method: str = "grad-cam"):
    explained = Explained(net, target, find_method(method))
    return explained, trace(explained, torch.zeros(2, 3, size, size), torch.tensor([-1, 0]))


@pytest.mark.parametrize("target", ["conv1", "norm1", "conv2", "relu2"])
@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 7])
def test_traced_equals_autograd_for_every_batch_size(target, batch):
    explained, graph = traced(network(), TargetLayer(target, "nchw"))
    inputs = torch.randn(batch, 3, 25, 25)
    class_index = torch.arange(-1, batch - 1).clamp(max=3)
    for ours, theirs in zip(graph(inputs, class_index), explained(inputs, class_index), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert explained(inputs, class_index)[1].max() > 0


@pytest.mark.parametrize("method", METHODS)
def test_each_method_is_traced_as_inspection_computes_it(method):
    net, inputs, class_index = network(), torch.randn(3, 3, 25, 25), torch.tensor([-1, 2, 3])
    _, graph = traced(net, TargetLayer("conv2", "nchw"), method=method)
    logits, maps, is_faint = graph(inputs, class_index)
    expected = class_activation_maps(net, inputs, method, "conv2", class_index)
    assert expected.maps.amax((1, 2)).min() > 0
    torch.testing.assert_close(logits, expected.logits)
    torch.testing.assert_close(maps, expected.maps)
    assert is_faint.tolist() == [False] * 3


def test_a_map_made_of_rounding_is_zero_and_flagged():
    # The norm takes each channel's mean away, so the gradients before it add up to nothing but rounding.
    net = network(max=nn.Sequential(nn.InstanceNorm2d(8), nn.MaxPool2d(3, 2, padding=1)))
    inputs, class_index = torch.randn(3, 3, 25, 25), torch.tensor([-1, 2, 3])
    _, graph = traced(net, TargetLayer("relu2", "nchw"))
    _, maps, is_faint = graph(inputs, class_index)
    assert not maps.any()
    assert is_faint.all()
    _, graph = traced(net, TargetLayer("relu2", "nchw"), method="hirescam")
    _, maps, is_faint = graph(inputs, class_index)
    assert maps.amax((1, 2)).min() > 1e-3
    assert not is_faint.any()


def test_frozen_weights_give_the_same_graph_and_stay_frozen():
    net = network()
    _, graph = traced(net, TargetLayer("conv1", "nchw"))
    frozen = network().requires_grad_(False)
    _, frozen_graph = traced(frozen, TargetLayer("conv1", "nchw"))
    assert str(graph.graph.graph) == str(frozen_graph.graph.graph)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())


class Permute(nn.Module):
    def __init__(self, *order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return x.permute(self.order)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


# What comes between the target layer's maps [N, 8, 12, 12] and the mean over positions, and parts of the names of
# operators that it must not be traced into.
TRAPS = {
    # The head of ConvNeXt and Swin: its gradient is written into strides, which ONNX has not.
    "pooling of channels-last maps": ([Permute(0, 2, 3, 1), nn.LayerNorm(8), Permute(0, 3, 1, 2)], "strided"),
    # A backward pass of its own, which ONNX has not.
    "attention": ([nn.Flatten(2), Permute(0, 2, 1), Attention(), Permute(0, 2, 1), nn.Unflatten(2, (12, 12))], "flash"),
    # Otherwise traced with the batch size as a number.
    "enlarging": ([nn.Upsample(scale_factor=2, mode="bilinear")], "upsample"),
}


@pytest.mark.parametrize("name", TRAPS)
def test_what_is_traced_can_be_written_in_onnx_with_an_open_batch(name):
    between, trap = TRAPS[name]
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), *between, *pooled).eval()
    explained, graph = traced(net, TargetLayer("0", "nchw"))
    operators = [str(node.target) for node in graph.graph.graph.nodes if node.op == "call_function"]
    assert not [operator for operator in operators if trap in operator]
    inputs, class_index = torch.randn(3, 3, 25, 25), torch.tensor([-1, 2, 3])
    torch.testing.assert_close(graph(inputs, class_index), explained(inputs, class_index))


def test_weights_of_layers_over_tokens_are_not_repeated_for_every_picture():
    """Folded, such constants take gigabytes for a ViT."""

    def is_weight(node) -> bool:
        while node.op == "call_function" and len(node.all_input_nodes) == 1:
            (node,) = node.all_input_nodes
        return node.op == "placeholder"

    tokens = [nn.Flatten(2), Permute(0, 2, 1), nn.Linear(8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 144, 4)]
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), *tokens).eval().requires_grad_(False)
    _, graph = traced(net, TargetLayer("0", "nchw"))
    expanded = [node.args[0] for node in graph.graph.graph.nodes if "expand" in str(node.target)]
    assert not [node for node in expanded if is_weight(node)]


def test_parameters_keep_their_names_and_are_not_copied():
    net = network()
    _, graph = traced(net, TargetLayer("conv2", "nchw"))
    assert dict(graph.named_parameters())["network.conv2.weight"] is net.conv2.weight
    assert not list(graph.graph.parameters())


def test_a_plain_tensor_that_the_network_holds_is_traced():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.linspace(1, 2, 8).reshape(1, 8, 1, 1)

        def forward(self, x):
            return x * self.scale

    explained, graph = traced(network(max=Scaled()), TargetLayer("conv2", "nchw"))
    inputs, class_index = torch.randn(3, 3, 25, 25), torch.tensor([-1, 2, 3])
    torch.testing.assert_close(graph(inputs, class_index), explained(inputs, class_index))


def test_channels_last_maps_and_tokens_are_read_in_their_layout():
    class Permute(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1)

    class Tokens(nn.Module):
        def forward(self, x):
            x = x.flatten(2).transpose(1, 2)
            return torch.cat([x.mean(1, keepdim=True), x], 1)

    class Back(nn.Module):
        def __init__(self, tokens: bool):
            super().__init__()
            self.tokens = tokens

        def forward(self, x):
            return x[:, 1:].transpose(1, 2).unflatten(2, (12, 12)) if self.tokens else x.permute(0, 3, 1, 2)

    inputs, class_index = torch.randn(3, 3, 25, 25), torch.tensor([-1, 2, 3])
    expected = Explained(network(), TargetLayer("relu2", "nchw"), find_method("grad-cam"))(inputs, class_index)[1]
    for kind, target in [
        (Permute(), TargetLayer("max.0", "nhwc")),
        (Tokens(), TargetLayer("max.0", "tokens", (12, 12))),
    ]:
        pool = nn.Sequential(kind, Back(target.layout == "tokens"), nn.MaxPool2d(3, 2, padding=1))
        _, graph = traced(network(max=pool), target)
        torch.testing.assert_close(graph(inputs, class_index)[1], expected)


def test_a_network_with_its_batch_size_written_in_is_refused():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.view(2, 72)

    with pytest.raises(ExportError, match="only works for the batch size"):
        traced(network(flatten=Fixed()), TargetLayer("conv2", "nchw"))


def test_a_layer_that_is_called_twice_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 1)

        def forward(self, x):
            return self.conv(self.conv(x))

    with pytest.raises(ExportError, match="is called 2 times"):
        traced(network(max=nn.Sequential(Twice(), nn.MaxPool2d(3, 2, padding=1))), TargetLayer("max.0.conv", "nchw"))


def test_a_layer_that_the_logits_do_not_depend_on_is_said_in_words():
    class Side(nn.Module):
        def __init__(self):
            super().__init__()
            self.side = nn.Conv2d(8, 8, 1)

        def forward(self, x):
            self.side(x)
            return x

    pool = nn.Sequential(Side(), nn.MaxPool2d(3, 2, padding=1))
    with pytest.raises(ExportError, match="do not depend on"):
        traced(network(max=pool), TargetLayer("max.0.side", "nchw"))


def test_a_module_with_two_names_keeps_its_weights_and_tied_ones_stay_tied():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 3, 3, padding=1)
            self.again = self.first
            self.tied = nn.Conv2d(3, 3, 3, padding=1)
            self.tied.weight = self.first.weight
            self.target, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, x):
            x = self.tied(self.again(self.first(x)).relu()).relu()
            return self.head(self.target(x).relu().mean((2, 3)))

    network = Shared().eval()
    before = dict(network.named_parameters())
    explained = Explained(network, TargetLayer("target", "nchw"), find_method("grad-cam"))
    images, chosen = torch.randn(2, 3, 8, 8), torch.zeros(2, dtype=torch.long)
    traced = trace(explained, images, chosen)
    assert all(parameter is before[name] for name, parameter in network.named_parameters())
    with torch.no_grad():
        network.first.weight.mul_(2)
    for found, wanted in zip(traced(images, chosen), explained(images, chosen), strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)
