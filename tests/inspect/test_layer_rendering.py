from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.inspect.layer_rendering import (
    COLUMNS,
    byte_count,
    count,
    display_rows,
    display_totals,
    memory_sentence,
    to_csv,
    to_html,
    to_json,
    to_markdown,
    to_rich,
)
from cutaway.inspect.layers import LayerTable, TrainingMemory, layer_table


@pytest.fixture
def table() -> LayerTable:
    shared = nn.Conv2d(2, 2, 3, padding=1)
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.Sequential(shared, nn.ReLU()),
        nn.ModuleDict({"[bold]|=x": nn.Identity()})["[bold]|=x"],
        nn.Flatten(),
        nn.Linear(72, 5),
    )
    tied = nn.Conv2d(2, 2, 3, padding=1)
    tied.weight, tied.bias = shared.weight, shared.bias
    network[1].append(tied)
    network[4].requires_grad_(False)
    return layer_table(network, (1, 8, 8))


GOLDEN = """\
Sequential on 1×1×8×8: 423 parameters (1.69 kB with buffers), 3.6 k multiply-accumulates and 1.17 kB of activations \
per picture.

| # | layer | type | input | output | parameters | MACs | activations | receptive field | stride |
| ---: | --- | --- | --- | --- | ---: | ---: | ---: | --- | --- |
| 1 | 0 | Conv2d | 1×1×8×8 | 1×2×6×6 | 20 | 648 | 288 B | 3 | 1 |
| 2 | 1.0 | Conv2d | 1×2×6×6 | 1×2×6×6 | 38 | 1.3 k | 288 B | 5 | 1 |
| 3 | 1.1 | ReLU | 1×2×6×6 | 1×2×6×6 |  |  | 288 B | 5 | 1 |
| 4 | 1.2 | Conv2d | 1×2×6×6 | 1×2×6×6 | those of 1.0 | 1.3 k | 288 B | 7 | 1 |
| 5 | 2 | Identity | 1×2×6×6 | 1×2×6×6 |  |  |  | 7 | 1 |
| 6 | 3 | Flatten | 1×2×6×6 | 1×72 |  |  |  | 7 | 1 |
| 7 | 4 | Linear | 1×72 | 1×5 | 365 frozen | 360 | 20 B | – | – |
|  | **total** |  |  |  | **423 (365 frozen)** | **3.6 k** | **1.17 kB** |  |  |
"""


def test_markdown(table: LayerTable) -> None:
    assert to_markdown(table) == GOLDEN


def test_the_terminal_shows_every_row_and_no_markup(table: LayerTable) -> None:
    console = Console(file=io.StringIO(), width=160)
    console.print(to_rich(table, nested=True))
    shown = console.file.getvalue()
    assert all(row.kind in shown for row in table.rows)
    assert "423 (365 frozen)" in shown
    hostile = layer_table(nn.Sequential(nn.ReLU()), (1,))
    hostile = replace(hostile, network="[bold]Net")
    console.print(to_rich(hostile, nested=True))
    assert "[bold]Net" in console.file.getvalue()


def test_nested_rows_are_indented_and_include_containers(table: LayerTable) -> None:
    names = [cells[1] for cells in display_rows(table, nested=True)]
    assert names == ["(Sequential)", "  0", "  1", "    0", "    1", "    2", "  2", "  3", "  4"]


def test_json_and_csv_hold_exact_numbers_that_add_up(table: LayerTable) -> None:
    loaded = json.loads(to_json(table))
    assert sum(row["macs"] for row in loaded["rows"]) == loaded["totals"]["macs"] == table.totals.macs
    read = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(read) == len(table.rows)
    assert sum(int(row["trainable"]) + int(row["frozen"]) for row in read) == 423
    assert (read[1]["output_shapes"], read[1]["receptive_field"], read[1]["field_stride"]) == ("1x2x6x6", "3 3", "1 1")
    assert (read[0]["receptive_field"], read[-1]["frozen"]) == ("", "365")


def test_json_and_csv_hold_the_chosen_columns_alone(table: LayerTable) -> None:
    columns = ["layer", "output", "macs", "field", "parameters"]
    lines = list(csv.reader(io.StringIO(to_csv(table, columns))))
    assert lines[0] == columns
    row = table.rows[1]
    assert lines[2] == [row.name, "1x2x6x6", str(row.macs), "3 3", str(row.trainable + row.frozen)]
    loaded = json.loads(to_json(table, None, columns))
    assert list(loaded["rows"][1].items()) == [
        *(("layer", row.name), ("output", [[1, 2, 6, 6]]), ("macs", row.macs)),
        *(("field", [3, 3]), ("parameters", row.trainable + row.frozen)),
    ]
    assert loaded["totals"]["macs"] == table.totals.macs
    to_csv(table, list(COLUMNS))
    with pytest.raises(InspectionError, match="no column 'colour'"):
        to_csv(table, ["colour"])


def test_columns_are_chosen_and_add_up(table: LayerTable) -> None:
    columns = ("layer", "trainable", "frozen", "bytes", "offset", "dtype", "device", "calls")
    rows = display_rows(table, columns=columns)
    assert rows[0] == ("0", "20", "", "80 B", "0", "float32", "cpu", "1")
    assert rows[1] == ("1.0", "38", "", "152 B", "-1", "float32", "cpu", "1")
    assert display_totals(table, columns) == ("total", "58", "365", "1.69 kB", "", "", "", "")
    with pytest.raises(InspectionError, match="no column 'colour'"):
        display_rows(table, columns=["colour"])


def test_operations_in_flat_and_nested_form() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.linear(torch.flatten(x, 1)))

    table = layer_table(nn.Sequential(Head()), (1, 2, 2))
    columns = ("order", "layer", "type")
    flat = [("1", "0.linear", "Linear"), ("2", "0:relu#0", "relu")]
    assert display_rows(table, columns=columns) == flat
    nested = ["(Sequential)", "  0", "    flatten#0", "    linear", "    relu#0"]
    assert [cells[1] for cells in display_rows(table, nested=True, columns=columns)] == nested


def test_the_page_escapes_names_and_needs_no_network(table: LayerTable) -> None:
    hostile = replace(table, network="<script>alert(1)</script>")
    page = to_html(hostile, nested=True, notes=["5 < 6"])
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "5 &lt; 6" in page
    assert "http" not in page
    assert page.count("<tr>") == len(table.rows) + 2
    assert "<td class=num>423 (365 frozen)</td>" in page


def test_memory_in_a_sentence_and_as_json(table: LayerTable) -> None:
    memory = TrainingMemory(32, "AdamW", 1000, 1000, 2000, 3_000_000, 400, (("1", 3_000_000),))
    assert memory_sentence(memory) == (
        "Training with AdamW at a batch size of 32 keeps about 3 MB: 1 kB of weights and buffers, 1 kB of gradients, "
        "2 kB of optimizer state, 3 MB of activations for the backward pass and 400 B of input."
    )
    assert json.loads(to_json(table, memory))["training_memory"]["saved_bytes"] == 3_000_000


def test_csv_cells_never_start_a_formula() -> None:
    network = nn.Module()
    network.add_module("=cmd|' /C calc'!A0", nn.ReLU())
    network.forward = lambda x: x  # type: ignore[method-assign]
    assert "\n'=cmd" in to_csv(layer_table(network, (1,)))


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0"), (999, "999"), (1000, "1 k"), (999_499, "999 k"), (999_500, "1 M"), (1_814_073_344, "1.81 G")],
)
def test_counts_in_three_digits(number: int, expected: str) -> None:
    assert count(number) == expected


def test_byte_counts() -> None:
    assert [byte_count(number) for number in (0, 20, 22_322_708)] == ["0 B", "20 B", "22.3 MB"]
