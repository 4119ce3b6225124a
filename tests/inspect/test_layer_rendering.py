from __future__ import annotations

import csv
import io
import json

import pytest
from rich.console import Console
from torch import nn

from cutaway.inspect.layer_rendering import byte_count, count, display_rows, to_csv, to_json, to_markdown, to_rich
from cutaway.inspect.layers import LayerTable, layer_table


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

| # | layer | type | input | output | parameters | MACs | activations |
| ---: | --- | --- | --- | --- | ---: | ---: | ---: |
| 1 | 0 | Conv2d | 1×1×8×8 | 1×2×6×6 | 20 | 648 | 288 B |
| 2 | 1.0 | Conv2d | 1×2×6×6 | 1×2×6×6 | 38 | 1.3 k | 288 B |
| 3 | 1.1 | ReLU | 1×2×6×6 | 1×2×6×6 |  |  | 288 B |
| 4 | 1.2 | Conv2d | 1×2×6×6 | 1×2×6×6 | those of 1.0 | 1.3 k | 288 B |
| 5 | 2 | Identity | 1×2×6×6 | 1×2×6×6 |  |  |  |
| 6 | 3 | Flatten | 1×2×6×6 | 1×72 |  |  |  |
| 7 | 4 | Linear | 1×72 | 1×5 | 365 frozen | 360 | 20 B |
|  | **total** |  |  |  | **423 (365 frozen)** | **3.6 k** | **1.17 kB** |
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
    hostile = type(hostile)("[bold]Net", hostile.input_shape, hostile.rows, hostile.totals)
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
    assert read[1]["output_shapes"] == "1x2x6x6"


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
