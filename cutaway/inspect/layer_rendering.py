"""The layer table for the terminal, for spreadsheets, for programs and for documents."""

from __future__ import annotations

import csv
import io
import itertools
import json
from dataclasses import asdict, fields

from rich.table import Table
from rich.text import Text

from cutaway.inspect.layers import LayerRow, LayerTable, Shape

HEADER = ("#", "layer", "type", "input", "output", "parameters", "MACs", "activations")
NUMERIC = frozenset({"#", "parameters", "MACs", "activations"})


def display_rows(table: LayerTable, *, nested: bool = False) -> list[tuple[str, ...]]:
    """The table as text, one tuple in the order of `HEADER` per row.

    Args:
        table: The table.
        nested: Also the modules that only hold others, each row indented under the module around it; otherwise only
            rows that count something, with full names.
    """
    if nested:
        return [_cells(row, table, nested) for row in table.rows]
    cells = [_cells(row, table, nested) for row in table.rows if row.has_own]
    # Rows that only hold others are left out, so the calls that are left are counted anew.
    calls = itertools.count(1)
    return [(str(next(calls)) if order else "", *rest) for order, *rest in cells]


def display_totals(table: LayerTable) -> tuple[str, ...]:
    """The last line of the table, in the order of `HEADER`."""
    totals = table.totals
    return (
        "",
        "total",
        "",
        "",
        "",
        _parameters(totals.trainable, totals.frozen),
        count(totals.macs),
        byte_count(totals.activation_bytes),
    )


def summary(table: LayerTable) -> str:
    """One sentence on the whole network."""
    totals = table.totals
    per = "picture" if table.input_shape[0] == 1 else f"batch of {table.input_shape[0]}"
    return (
        f"{table.network} on {_shape(table.input_shape)}: {totals.parameters:,} parameters "
        f"({byte_count(totals.stored_bytes)} with buffers), {count(totals.macs)} multiply-accumulates and "
        f"{byte_count(totals.activation_bytes)} of activations per {per}."
    )


def to_rich(table: LayerTable, *, nested: bool = False) -> Table:
    """The table for the terminal."""
    rendered = Table(title=Text(summary(table)), title_justify="left", show_footer=True)
    for name, total in zip(HEADER, display_totals(table), strict=True):
        right = "right" if name in NUMERIC else "left"
        rendered.add_column(name, Text(total), justify=right, overflow="fold")  # type: ignore[arg-type]
    for cells in display_rows(table, nested=nested):
        # As Text, since a name in square brackets would be taken for markup.
        rendered.add_row(*(Text(cell) for cell in cells))
    return rendered


def to_markdown(table: LayerTable, *, nested: bool = False) -> str:
    """The table for a document."""
    lines = [summary(table), "", _markdown_line(HEADER)]
    lines.append(_markdown_line(tuple("---:" if name in NUMERIC else "---" for name in HEADER)))
    lines.extend(_markdown_line(cells) for cells in display_rows(table, nested=nested))
    lines.append(_markdown_line(tuple(f"**{cell}**" if cell else "" for cell in display_totals(table))))
    return "\n".join(lines) + "\n"


def to_json(table: LayerTable) -> str:
    """Everything in the table, in exact numbers."""
    return json.dumps(asdict(table), indent=1, ensure_ascii=False) + "\n"


def to_csv(table: LayerTable) -> str:
    """Every row in exact numbers, shapes as `1x3x224x224`, several separated by spaces."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(LayerRow)]
    writer.writerow(names)
    for row in table.rows:
        writer.writerow([_spreadsheet(getattr(row, name)) for name in names])
    return text.getvalue()


def count(number: int) -> str:
    """A large number in three digits: 1814073344 is `1.81 G`."""
    size = float(number)
    for prefix in ("", "k", "M", "G", "T"):
        if abs(size) < 999.5 or prefix == "T":
            break
        size /= 1000
    return f"{number}" if not prefix else f"{size:.3g} {prefix}"


def byte_count(number: int) -> str:
    """Bytes in three digits: 22322708 is `22.3 MB`."""
    text = count(number)
    return f"{text}B" if " " in text else f"{text} B"


def _cells(row: LayerRow, table: LayerTable, nested: bool) -> tuple[str, ...]:
    name = row.name or f"({table.network})"
    if nested:
        name = "  " * row.depth + (row.name.rpartition(".")[2] or name)
    kind = row.kind if row.calls < 2 else f"{row.kind} ×{row.calls}"
    parameters = _parameters(row.trainable, row.frozen)
    if row.shared_with is not None:
        parameters = f"{parameters} + those of {row.shared_with}" if row.parameters else f"those of {row.shared_with}"
    return (
        str(row.order) if row.order else "",
        name,
        kind,
        _shapes(row.input_shapes),
        _shapes(row.output_shapes) if row.calls or nested else "not called",
        parameters,
        count(row.macs) if row.macs else "",
        byte_count(row.activation_bytes) if row.activation_bytes else "",
    )


def _parameters(trainable: int, frozen: int) -> str:
    if not frozen:
        return f"{trainable:,}" if trainable else ""
    return f"{frozen:,} frozen" if not trainable else f"{trainable + frozen:,} ({frozen:,} frozen)"


def _shape(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _shapes(shapes: tuple[Shape, ...]) -> str:
    return ", ".join(dict.fromkeys(map(_shape, shapes)))


def _markdown_line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |"


def _spreadsheet(value: object) -> object:
    if isinstance(value, tuple):
        return " ".join("x".join(map(str, shape)) for shape in value)
    # A cell that starts like a formula would be run by a spreadsheet.
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
