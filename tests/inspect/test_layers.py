from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cutaway.errors import InspectionError, NetworkError
from cutaway.inspect.layers import LayerRow, LayerTable, fold, layer_table


def rows(table: LayerTable) -> dict[str, LayerRow]:
    return {row.name: row for row in table.rows}


def test_a_small_network_worked_out_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(72, 5)
    )
    network[0].weight.requires_grad_(False)
    table = layer_table(network, (1, 8, 8), batch_size=3)
    root, conv, norm, relu, flatten, linear = table.rows
    assert [row.order for row in table.rows] == [0, 1, 2, 3, 4, 5]
    assert (conv.input_shapes, conv.output_shapes) == (((3, 1, 8, 8),), ((3, 2, 6, 6),))
    # Nine weights for each of two channels, frozen; one bias each.
    assert (conv.trainable, conv.frozen, conv.buffers) == (2, 18, 0)
    # Three pictures, 36 positions, two channels, nine products each; four bytes for each output.
    assert (conv.macs, conv.activation_bytes) == (3 * 36 * 2 * 9, 3 * 36 * 2 * 4)
    # Weight and bias; running mean and variance, and the count of batches in eight bytes.
    assert (norm.trainable, norm.buffers, norm.stored_bytes) == (4, 5, 4 * 8 + 8)
    assert (relu.activation_bytes, flatten.activation_bytes) == (0, 0)
    assert (linear.trainable, linear.macs, linear.activation_bytes) == (365, 3 * 72 * 5, 3 * 5 * 4)
    assert (root.parameters, root.macs, root.activation_bytes) == (0, 0, 0)
    assert (table.totals.trainable, table.totals.frozen) == (2 + 4 + 365, 18)
    assert table.input_shapes == ((3, 1, 8, 8),)


class Functional(nn.Module):
    """Everything that tables forget: operations without a module, reuse, shared weights, unused layers, tuples."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU()
        self.tied = nn.Conv2d(3, 3, 3, padding=1)
        self.tied.weight = self.conv.weight
        self.unused = nn.Linear(7, 7)
        self.pair = Pair()
        self.kernel = nn.Parameter(torch.ones(4, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.tied(self.relu(self.conv(x))))
        x = F.relu(F.conv2d(x, self.kernel))
        a, b = self.pair(x, y=x)
        return (a + b).mean((2, 3))


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Identity()

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, y[:, :1]


def test_operations_have_rows_of_their_own() -> None:
    table = layer_table(Functional(), (3, 4, 4))
    found = rows(table)
    assert [row.name for row in table.rows if row.is_operation] == [
        ":conv2d#0",
        ":relu#0",
        "pair:mul#0",
        "pair:getitem#0",
        ":add#0",
        ":mean#0",
    ]
    conv = found[":conv2d#0"]
    assert (conv.kind, conv.depth, conv.macs, conv.activation_bytes) == ("conv2d", 1, 16 * 4 * 3, 4 * 64)
    assert (conv.input_shapes, conv.output_shapes) == (((1, 3, 4, 4), (4, 3, 1, 1)), ((1, 4, 4, 4),))
    assert (conv.parent, found["pair:mul#0"].parent, found["pair:mul#0"].depth) == ("", "pair", 2)
    assert [found[name].activation_bytes for name in (":relu#0", ":add#0", ":mean#0")] == [256, 256, 16]
    assert (found["pair:getitem#0"].is_view, found["pair:getitem#0"].has_own, conv.is_view) == (True, False, False)
    # In the order of the calls: the sum comes after the pair.
    assert found["pair"].order < found["pair:mul#0"].order < found[":add#0"].order
    assert (found[""].macs, found[""].activation_bytes, found["pair"].activation_bytes) == (0, 0, 0)


def test_without_rows_of_their_own_operations_are_booked_to_the_module_around_them() -> None:
    table = layer_table(Functional(), (3, 4, 4), operations=False)
    found = rows(table)
    assert found[""].macs == 16 * 4 * 3
    # F.conv2d, F.relu and the sum write 64 numbers each, the mean 4.
    assert found[""].activation_bytes == 4 * (64 * 3 + 4)
    assert found["pair"].activation_bytes == 4 * 64
    assert table.totals == layer_table(Functional(), (3, 4, 4)).totals


def test_reuse_shared_weights_unused_layers_and_tuples() -> None:
    table = layer_table(Functional(), (3, 4, 4))
    found = rows(table)
    assert (found["relu"].calls, found["relu"].activation_bytes) == (2, 2 * 4 * 48)
    assert found["pair"].input_shapes == ((1, 4, 4, 4), (1, 4, 4, 4))
    assert found["pair"].output_shapes == ((1, 4, 4, 4), (1, 1, 4, 4))
    assert (found["unused"].order, found["unused"].calls, found["unused"].parameters) == (None, 0, 56)
    assert (found["tied"].parameters, found["tied"].shared_with) == (3, "conv")
    assert table.totals.parameters == sum(parameter.numel() for parameter in Functional().parameters())


def test_in_place_and_reflected_operations_are_the_same_rows() -> None:
    class Residual(nn.Module):
        def __init__(self, *, inplace: bool) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.inplace = inplace

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            if self.inplace:
                y += x
                return F.relu_(y)
            return F.relu(y + x)

    kinds = [
        [(row.name, row.is_view) for row in layer_table(Residual(inplace=inplace), (3, 4, 4)).rows if row.is_operation]
        for inplace in (True, False)
    ]
    assert kinds[0] == kinds[1] == [(":add#0", False), (":relu#0", False)]


def test_type_and_device_of_a_row() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    network[2].to("meta")
    found = rows(layer_table(network, (3,)))
    assert [(found[name].dtype, found[name].device) for name in ("0", "1", "2")] == [
        ("float64", "cpu"),
        ("float64", "cpu"),
        ("float64", "meta"),
    ]


def test_networks_of_several_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(7, 4)
            self.linear = nn.Linear(3, 4)

        def forward(self, picture: Tensor, words: Tensor | None = None) -> Tensor:
            return self.linear(picture) + (0 if words is None else self.words(words))

    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bilinear = nn.Bilinear(3, 5, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.bilinear(a, b)

    picture, words = torch.zeros(6, 3), torch.zeros(6, dtype=torch.long)
    for inputs in ((picture, words), {"picture": picture, "words": words}):
        table = layer_table(Two(), inputs=inputs)
        assert (table.input_shapes, table.batch_size) == (((6, 3), (6,)), None)
        assert (rows(table)["words"].calls, rows(table)["words"].output_shapes) == (1, ((6, 4),))
    assert rows(layer_table(Two(), inputs=picture))["words"].calls == 0
    assert layer_table(Pairs(), ((3,), (5,)), batch_size=2).input_shapes == ((2, 3), (2, 5))
    for wrong in ({}, {"input_shape": (3,), "inputs": picture}):
        with pytest.raises(InspectionError, match="either the shape"):
            layer_table(Two(), **wrong)


def test_folding_keeps_every_column_s_sum() -> None:
    table = layer_table(torchvision.models.resnet18(), (3, 64, 64))
    for depth in range(4):
        folded = fold(table, depth)
        assert max(row.depth for row in folded.rows) == depth
        for name in ("trainable", "frozen", "buffers", "macs", "activation_bytes", "stored_bytes"):
            assert sum(getattr(row, name) for row in folded.rows) == getattr(table.totals, name)
    stage = rows(fold(table, 1))["layer1"]
    assert stage.parameters == sum(p.numel() for p in torchvision.models.resnet18().layer1.parameters())
    # Four convolutions of 64 x 64 x 9 weights over 16 x 16 positions.
    assert (stage.macs, stage.is_leaf) == (4 * 64 * 64 * 9 * 256, True)
    assert fold(table, 9) == table
    with pytest.raises(InspectionError, match="-1"):
        fold(table, -1)


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1", "vit_b_32", "swin_v2_t", "convnext_tiny", "vgg11"]
)
def test_totals_are_what_torchvision_publishes(name: str) -> None:
    check_published(name)


@pytest.mark.wide
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_totals_of_every_model_are_what_torchvision_publishes(name: str) -> None:
    if name == "regnet_y_128gf":
        pytest.skip("cannot be built without 2.6 GB of weights; its smaller siblings are tested")
    check_published(name)


def check_published(name: str) -> None:
    # The variants for larger pictures are other networks: their position embeddings have more parameters.
    weights = min(torchvision.models.get_model_weights(name), key=lambda weights: weights.transforms().crop_size)
    keywords = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name == "googlenet":
        keywords["aux_logits"] = False
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        network = torchvision.models.get_model(name, weights=None, **keywords)
    (side,) = weights.transforms().crop_size
    table = layer_table(network, (3, side, side))
    assert table.totals.parameters == weights.meta["num_params"]
    assert table.totals.macs / 1e9 == pytest.approx(weights.meta["_ops"], abs=0.0006)
    for name in ("trainable", "frozen", "buffers", "macs", "activation_bytes", "stored_bytes"):
        assert getattr(table.totals, name) == sum(getattr(row, name) for row in table.rows)


def test_attention_is_counted_as_a_real_run_counts_it() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.encoder(x.flatten(2).transpose(1, 2)).mean(1)

    network = Attention().eval()
    table = layer_table(network, (16, 4, 4), batch_size=2)
    # With gradients on, PyTorch does not take the fused path that hides its operations.
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(2, 16, 4, 4))
    assert table.totals.macs * 2 == counter.get_total_flops()
    by_name = rows(table)
    assert not any(row.is_operation and "self_attn" in row.name for row in table.rows)
    assert by_name["encoder.layers.1.linear1"].macs == 2 * 16 * 16 * 32
    # Queries, keys, values and the output projection, and two products of 16 x 16 positions.
    assert by_name["encoder.layers.1.self_attn"].macs == 2 * (4 * 16 * 16 * 16 + 2 * 16 * 16 * 16)


def test_batch_size_scales_work_and_not_weights() -> None:
    one, many = (layer_table(Functional(), (3, 8, 8), batch_size=size).totals for size in (1, 1000))
    assert many.macs == 1000 * one.macs
    assert many.activation_bytes == 1000 * one.activation_bytes
    assert (many.parameters, many.stored_bytes) == (one.parameters, one.stored_bytes)


def test_a_network_that_needs_values_is_counted_once() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.linear(x)
            return y * 2 if y.sum().item() > 0 else y + 1

    table = layer_table(Branching(), (4,), batch_size=3)
    assert rows(table)["linear"].calls == 1
    assert table.totals.macs == 3 * 4 * 2


def test_the_network_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    network[2].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()
    layer_table(network, (1, 8, 8))
    with pytest.raises(NetworkError, match=r"cannot run on an input of shape \[1, 2, 8, 8\]"):
        layer_table(network, (2, 8, 8))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert [module.training for module in network] == [True, True, False]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert torch.equal(random, torch.get_rng_state())


def test_a_layer_whose_failure_the_network_catches_takes_nothing_from_the_others() -> None:
    class Catches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fails = nn.Linear(5, 2)
            self.works = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.fails(x)
            except RuntimeError:
                return self.works(x)

    found = rows(layer_table(Catches(), (4,)))
    assert found["works"].output_shapes == ((1, 3),)
    assert found["works"].macs == 12
    assert found["fails"].output_shapes == ()
    assert found["fails"].macs == 0
    assert next(iter(found.values())).output_shapes == ((1, 3),)


def test_tensors_and_a_batch_in_the_shape_are_told() -> None:
    network, tensor = nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)
    for shape in ((tensor, tensor), tensor):
        with pytest.raises(InspectionError, match="inputs="):
            layer_table(network, shape)  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match=r"leave the batch out, as in \(3, 8, 8\)"):
        layer_table(network, (1, 3, 8, 8))
    with pytest.raises(NetworkError) as refusal:
        layer_table(network, (2, 8, 8))
    assert "leave the batch out" not in refusal.value.hint
    # Of a volume four numbers are right.
    assert layer_table(nn.Conv3d(1, 2, 3), (1, 4, 8, 8)).input_shapes == ((1, 1, 4, 8, 8),)


def test_a_wrapped_network_has_the_rows_of_its_own() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    plain, wrapped = (layer_table(each, (3, 8, 8)) for each in (network, nn.DataParallel(network)))
    assert [row.name for row in wrapped.rows] == ["", "0", "1", "2", "3"]
    assert wrapped.rows == plain.rows


def test_a_buffer_that_two_modules_share_is_counted_once() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    table = torch.zeros(7)
    network[0].register_buffer("table", table)
    network[1].register_buffer("table", table)
    totals = layer_table(network, (4,)).totals
    assert (totals.buffers, totals.stored_bytes) == (7, (2 * 20 + 7) * 4)
