"""The layer table of what is no classifier: segmentation, detection, a U-Net, a generator, a recurrent network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import detection, segmentation

from cutaway.inspect.layers import LayerTable, layer_table, training_memory


def check(network: nn.Module, inputs: Any) -> LayerTable:
    """Sums, the flop counter's count over a real run, and that nothing changed."""
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    table = layer_table(network, inputs=inputs)
    for name in ("trainable", "frozen", "buffers", "macs", "activation_bytes", "stored_bytes"):
        assert sum(getattr(row, name) for row in table.rows) == getattr(table.totals, name)
    assert table.totals.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert all(row.order is not None for row in table.rows if row.is_operation)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(inputs)
    assert table.totals.macs * 2 == counter.get_total_flops()
    return table


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large"])
def test_segmentation(name: str) -> None:
    network = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=5)
    table = check(network, torch.zeros(2, 3, 64, 64))
    # A dictionary of maps as large as the picture.
    assert table.rows[0].output_shapes[0] == (2, 5, 64, 64)
    assert any(row.kind == "interpolate" for row in table.rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"])
def test_detection_takes_a_list_of_pictures(name: str) -> None:
    network = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=4)
    table = check(network, [torch.zeros(3, 90, 120), torch.zeros(3, 80, 80)])
    assert table.input_shapes == ((3, 90, 120), (3, 80, 80))
    assert any(row.name.startswith("backbone") and row.macs for row in table.rows)


class UNet(nn.Module):
    """Two levels with a skip connection (Ronneberger et al. 2015, padded)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down = self.block(1, 4), nn.MaxPool2d(2)
        self.middle, self.up = self.block(4, 8), nn.ConvTranspose2d(8, 4, 2, 2)
        self.leave, self.out = self.block(8, 4), nn.Conv2d(4, 2, 1)

    @staticmethod
    def block(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        skipped = self.enter(x)
        x = self.up(self.middle(self.down(skipped)))
        return self.out(self.leave(torch.cat([skipped, x], 1)))


def test_a_u_net_joins_what_its_branches_see() -> None:
    table = check(UNet(), torch.zeros(1, 1, 32, 32))
    found = {row.name: row for row in table.rows}
    # Two convolutions see 5 pixels; pooling 6; two more on every second pixel 14; the way up adds none.
    sizes = [found[name].receptive_field for name in ("enter", "down", "middle", "up", ":cat#0", "leave")]
    assert sizes == [(5, 5), (6, 6), (14, 14), (14, 14), (14, 14), (18, 18)]
    assert [found[name].field_stride for name in ("middle", "up")] == [(2, 2), (1, 1)]
    assert found[":cat#0"].output_shapes == ((1, 8, 32, 32),)


def test_a_dcgan_generator() -> None:
    layers: list[nn.Module] = []
    for inputs, outputs, stride, padding in ((10, 16, 1, 0), (16, 8, 2, 1), (8, 4, 2, 1), (4, 1, 2, 1)):
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False), nn.BatchNorm2d(outputs)]
        layers.append(nn.ReLU(inplace=True))
    table = check(nn.Sequential(*layers[:-2], nn.Tanh()), torch.zeros(3, 10, 1, 1))
    assert table.rows[0].output_shapes == ((3, 1, 32, 32),)
    # A kernel of 4 x 4 over each of its inputs.
    assert table.rows[1].macs == 3 * 10 * 16 * 16


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.lstm = nn.LSTM(8, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.out = nn.Linear(32, 3)

    def forward(self, words: Tensor) -> Tensor:
        states, _ = self.lstm(self.words(words))
        return self.out(states[:, -1])


class Wary(Reader):
    """Needs values."""

    def forward(self, words: Tensor) -> Tensor:
        return super().forward(words) if words.sum() >= 0 else words


@pytest.mark.parametrize("made", [Reader, Wary])
def test_an_lstm_worked_out_by_hand(made: type[Reader]) -> None:
    # The flop counter knows nothing of the fused kernel that a real run takes.
    table = layer_table(made(), inputs=torch.zeros(4, 7, dtype=torch.long))
    found = {row.name: row for row in table.rows}
    assert found["lstm"].output_shapes[0] == (4, 7, 32)
    assert found["lstm"].parameters == sum(parameter.numel() for parameter in made().lstm.parameters())
    # Four gates of 16 in two directions, over 8 and then 32 inputs and 16 states, at 7 places of 4 texts.
    assert found["lstm"].macs == 4 * 7 * 2 * 4 * 16 * ((8 + 16) + (32 + 16))
    assert found["out"].macs == 4 * 32 * 3
    assert (found["lstm"].receptive_field, found["out"].receptive_field) == (None, None)
    assert training_memory(made(), inputs=torch.zeros(4, 7, dtype=torch.long)).saved_bytes > 0


def test_attention_without_its_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    table = check_attention(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))
    assert [row.kind for row in table.rows].count("MultiheadAttention") == 2


def check_attention(network: nn.Module) -> LayerTable:
    inputs = torch.zeros(2, 9, 16)
    table = layer_table(network, inputs=inputs)
    # With gradients on, PyTorch does not take the fused path that hides its operations.
    with FlopCounterMode(display=False) as counter:
        network.eval()(inputs)
    assert table.totals.macs * 2 == counter.get_total_flops()
    return table


class MaskedReader(nn.Module):
    """Needs values, so that it runs on zeros, and hides what it takes for padding."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.encoder(tokens, src_key_padding_mask=tokens[..., 0] > 1) * float(tokens.sum() == 0)


def test_attention_behind_a_mask_has_the_shapes_of_whole_batches() -> None:
    rows = {row.name: row for row in layer_table(MaskedReader(), (5, 8), operations=False).rows}
    assert rows["encoder.layers.0.linear1"].input_shapes == ((1, 5, 8),)
    assert rows["encoder.layers.0.linear1"].output_shapes == ((1, 5, 16),)
