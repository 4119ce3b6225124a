"""The layer table for the terminal, for spreadsheets, for programs and for documents."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields

from rich.table import Table
from rich.text import Text

from cutaway.errors import InspectionError
from cutaway.inspect.layers import LayerRow, LayerTable, LayerTotals, Shape, TrainingMemory

NOTHING = "–"


@dataclass(frozen=True)
class Column:
    """A column of the table as text.

    Attributes:
        title: What stands above it.
        cell: A row's text.
        total: The text below it; none where it is no sum.
        is_numeric: Whether it stands right.
    """

    title: str
    cell: Callable[[LayerRow], str]
    total: Callable[[LayerTotals], str] | None = None
    is_numeric: bool = False


def _counted(title: str, name: str, shown: Callable[[int], str] = "{:,}".format) -> Column:
    def text(counts: LayerRow | LayerTotals) -> str:
        number: int = getattr(counts, name)
        return shown(number) if number else ""

    return Column(title, text, text, is_numeric=True)


COLUMNS: dict[str, Column] = {
    "order": Column("#", lambda row: str(row.order) if row.order else "", is_numeric=True),
    "layer": Column("layer", lambda row: row.name, lambda totals: "total"),
    "type": Column("type", lambda row: row.kind if row.calls < 2 else f"{row.kind} ×{row.calls}"),
    "input": Column("input", lambda row: _shapes(row.input_shapes)),
    "output": Column("output", lambda row: _shapes(row.output_shapes) if row.order is not None else "not called"),
    "parameters": Column(
        "parameters", lambda row: _parameters(row), lambda totals: _numbers(totals.trainable, totals.frozen), True
    ),
    "trainable": _counted("trainable", "trainable"),
    "frozen": _counted("frozen", "frozen"),
    "buffers": _counted("buffers", "buffers"),
    "bytes": _counted("weights", "stored_bytes", lambda number: byte_count(number)),
    "macs": _counted("MACs", "macs", lambda number: count(number)),
    "activations": _counted("activations", "activation_bytes", lambda number: byte_count(number)),
    "field": Column("receptive field", lambda row: _along(row.receptive_field, row)),
    "stride": Column("stride", lambda row: _along(row.field_stride, row)),
    "offset": Column("offset", lambda row: _along(row.field_offset, row)),
    "dtype": Column("dtype", lambda row: row.dtype or ""),
    "device": Column("device", lambda row: row.device or ""),
    "calls": Column("calls", lambda row: str(row.calls), is_numeric=True),
}
EXACT: dict[str, str] = {
    "layer": "name",
    "type": "kind",
    "input": "input_shapes",
    "output": "output_shapes",
    "bytes": "stored_bytes",
    "activations": "activation_bytes",
    "field": "receptive_field",
    "stride": "field_stride",
    "offset": "field_offset",
}
"""What the numbers behind a column are called in `LayerRow`, where that is not the column's name."""
USUAL = ("order", "layer", "type", "input", "output", "parameters", "macs", "activations", "field", "stride")
HEADER = tuple(COLUMNS[name].title for name in USUAL)
NUMERIC = frozenset(column.title for column in COLUMNS.values() if column.is_numeric)


def check_columns(columns: Sequence[str]) -> None:
    """Refuses a name that is not in `COLUMNS`.

    Raises:
        InspectionError: Names those that are.
    """
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise InspectionError(f"There is no column '{unknown[0]}'.", hint=f"Known are {', '.join(COLUMNS)}.")


def display_rows(table: LayerTable, *, nested: bool = False, columns: Sequence[str] = USUAL) -> list[tuple[str, ...]]:
    """The table as text, one tuple in the order of the columns per row.

    Args:
        table: The table.
        nested: Also the modules that only hold others and the operations that are views, each row indented under the
            module around it; otherwise only rows that count something, with full names.
        columns: Names from `COLUMNS`.

    Raises:
        InspectionError: There is no such column.
    """
    chosen = _chosen(columns)
    shown = [row for row in table.rows if nested or row.has_own]
    # Rows that only hold others are left out, so the calls that are left are counted anew.
    calls = itertools.count(1)
    lines = []
    for row in shown:
        cells = {name: column.cell(row) for name, column in chosen.items()}
        if not nested and "order" in cells:
            cells["order"] = str(next(calls)) if row.order else ""
        if "layer" in cells:
            cells["layer"] = _name(row, table, nested)
        if nested and "output" in cells and row.order is None:
            cells["output"] = ""
        lines.append(tuple(cells.values()))
    return lines


def display_totals(table: LayerTable, columns: Sequence[str] = USUAL) -> tuple[str, ...]:
    """The last line of the table, in the order of the columns."""
    return tuple(column.total(table.totals) if column.total else "" for column in _chosen(columns).values())


def summary(table: LayerTable) -> str:
    """One sentence on the whole network."""
    totals = table.totals
    per = {1: "picture", None: "run"}.get(table.batch_size, f"batch of {table.batch_size}")
    return (
        f"{table.network} on {_shapes(table.input_shapes)}: {totals.parameters:,} parameters "
        f"({byte_count(totals.stored_bytes)} with buffers), {count(totals.macs)} multiply-accumulates and "
        f"{byte_count(totals.activation_bytes)} of activations per {per}."
    )


def memory_sentence(memory: TrainingMemory) -> str:
    """One sentence on what training takes."""
    batch = "" if memory.batch_size is None else f" at a batch size of {memory.batch_size}"
    return (
        f"Training with {memory.optimizer}{batch} keeps about {byte_count(memory.total_bytes)}: "
        f"{byte_count(memory.weight_bytes)} of weights and buffers, {byte_count(memory.gradient_bytes)} of gradients, "
        f"{byte_count(memory.optimizer_bytes)} of optimizer state, {byte_count(memory.saved_bytes)} of activations for "
        f"the backward pass and {byte_count(memory.input_bytes)} of input."
    )


def to_rich(
    table: LayerTable, *, nested: bool = False, columns: Sequence[str] = USUAL, notes: Sequence[str] = ()
) -> Table:
    """The table for the terminal.

    Args:
        table: The table.
        nested: As in `display_rows`.
        columns: Names from `COLUMNS`.
        notes: Sentences below it.
    """
    rendered = Table(
        title=Text(summary(table)),
        title_justify="left",
        show_footer=True,
        caption=Text("\n".join(notes)) if notes else None,
        caption_justify="left",
    )
    for column, total in zip(_chosen(columns).values(), display_totals(table, columns), strict=True):
        right = "right" if column.is_numeric else "left"
        whole = column.is_numeric  # a figure in two lines would be read as two
        rendered.add_column(column.title, Text(total), justify=right, overflow="fold", no_wrap=whole)  # type: ignore[arg-type]
    for cells in display_rows(table, nested=nested, columns=columns):
        # As Text, since a name in square brackets would be taken for markup.
        rendered.add_row(*(Text(cell) for cell in cells))
    return rendered


def to_markdown(
    table: LayerTable, *, nested: bool = False, columns: Sequence[str] = USUAL, notes: Sequence[str] = ()
) -> str:
    """The table for a document; see `to_rich`."""
    chosen = _chosen(columns)
    lines = [summary(table), "", _markdown_line([column.title for column in chosen.values()])]
    lines.append(_markdown_line(["---:" if column.is_numeric else "---" for column in chosen.values()]))
    lines.extend(_markdown_line(cells) for cells in display_rows(table, nested=nested, columns=columns))
    totals = display_totals(table, columns)
    lines.append(_markdown_line([f"**{cell}**" if cell else "" for cell in totals]))
    for note in notes:
        lines.extend(["", note])
    return "\n".join(lines) + "\n"


def to_html(
    table: LayerTable, *, nested: bool = False, columns: Sequence[str] = USUAL, notes: Sequence[str] = ()
) -> str:
    """The table as a page of its own that needs nothing else; see `to_rich`."""
    chosen = list(_chosen(columns).values())

    def line(cells: Sequence[str], tag: str = "td") -> str:
        marked = (
            f"<{tag}{' class=num' if column.is_numeric else ''}>{html.escape(cell)}</{tag}>"
            for cell, column in zip(cells, chosen, strict=True)
        )
        return f"<tr>{''.join(marked)}</tr>"

    body = "\n".join(line(cells) for cells in display_rows(table, nested=nested, columns=columns))
    return _PAGE.format(
        title=html.escape(table.network),
        summary=html.escape(summary(table)),
        head=line([column.title for column in chosen], "th"),
        body=body,
        foot=line(display_totals(table, columns)),
        notes="".join(f"<p>{html.escape(note)}</p>\n" for note in notes),
    )


def to_json(table: LayerTable, memory: TrainingMemory | None = None, columns: Sequence[str] | None = None) -> str:
    """Everything in the table, in exact numbers; of each row only these columns, by their names, where some are named.

    Raises:
        InspectionError: There is no such column.
    """
    everything = asdict(table)
    if columns is not None:
        chosen = _chosen(columns)
        everything["rows"] = [{name: _exact(row, name) for name in chosen} for row in table.rows]
    everything |= {} if memory is None else {"training_memory": asdict(memory)}
    return json.dumps(everything, indent=1, ensure_ascii=False) + "\n"


def to_csv(table: LayerTable, columns: Sequence[str] | None = None) -> str:
    """Every row in exact numbers, shapes as `1x3x224x224`, several separated by spaces.

    Args:
        table: The table.
        columns: Names from `COLUMNS`, which the header then says; everything in `LayerRow` where None.

    Raises:
        InspectionError: There is no such column.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = [field.name for field in fields(LayerRow)] if columns is None else list(_chosen(columns))
    writer.writerow(names)
    for row in table.rows:
        writer.writerow([_spreadsheet(_exact(row, name)) for name in names])
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


_PAGE = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 2em; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .2em .7em; text-align: left; white-space: pre; border-bottom: 1px solid #8884; }}
.num {{ text-align: right; font-variant-numeric: tabular-nums; }}
tfoot {{ font-weight: bold; }}
</style>
<p>{summary}</p>
<table>
<thead>{head}</thead>
<tbody>
{body}
</tbody>
<tfoot>{foot}</tfoot>
</table>
{notes}</html>
"""


def _chosen(columns: Sequence[str]) -> dict[str, Column]:
    check_columns(columns)
    return {name: COLUMNS[name] for name in columns}


def _exact(row: LayerRow, name: str) -> object:
    return getattr(row, EXACT.get(name, name))


def _name(row: LayerRow, table: LayerTable, nested: bool) -> str:
    if not nested:
        return row.name or f"({table.network})"
    last = row.name.rpartition(":")[2] if row.is_operation else row.name.rpartition(".")[2]
    return "  " * row.depth + (last or f"({table.network})")


def _parameters(row: LayerRow) -> str:
    own = _numbers(row.trainable, row.frozen)
    if row.shared_with is None:
        return own
    return f"{own} + those of {row.shared_with}" if own else f"those of {row.shared_with}"


def _numbers(trainable: int, frozen: int) -> str:
    if not frozen:
        return f"{trainable:,}" if trainable else ""
    return f"{frozen:,} frozen" if not trainable else f"{trainable + frozen:,} ({frozen:,} frozen)"


def _shape(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "scalar"


def _shapes(shapes: tuple[Shape, ...]) -> str:
    return ", ".join(dict.fromkeys(map(_shape, shapes)))


def _along(numbers: Sequence[int | float] | None, row: LayerRow) -> str:
    """A number where all axes have the same; a dash for a layer that runs where there is none."""
    if numbers is None:
        return NOTHING if row.calls else ""
    texts = [f"{number:g}" for number in numbers]
    return texts[0] if len(set(texts)) == 1 else "×".join(texts)


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells) + " |"


def _spreadsheet(value: object) -> object:
    if isinstance(value, tuple):
        parts = ("x".join(map(str, part)) if isinstance(part, tuple) else f"{part}" for part in value)
        return " ".join(parts)
    # A cell that starts like a formula would be run by a spreadsheet.
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
