"""The layer table on a terminal of any width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cutaway.cli.terminal import console

if TYPE_CHECKING:
    from rich.table import Table

    from cutaway.inspect.layers import LayerTable

_WIDEST = 10_000
LEAST_NEEDED = ("stride", "field", "input", "activations", "order")
"""Columns in the order in which they are left out where there is no room for all."""


def print_fitting(table: LayerTable, columns: Sequence[str], notes: Sequence[str], *, nested: bool) -> None:
    """Prints the table with these columns, or with those of the usual ones that fit where none are named.

    A column that is left out is named below the table, with how to see it.
    """
    from cutaway.inspect.layer_rendering import USUAL, to_rich

    screen = console()
    shown = list(columns or USUAL)
    rendered = to_rich(table, nested=nested, columns=shown, notes=notes)
    left_out: list[str] = []
    for name in LEAST_NEEDED if not columns else ():
        if _width(rendered) <= screen.width:
            break
        shown.remove(name)
        left_out.append(name)
        said = f"Left out for want of room: {', '.join(left_out)}. --columns names what to show; --format csv has all."
        rendered = to_rich(table, nested=nested, columns=shown, notes=[*notes, said])
    screen.print(rendered)


def _width(rendered: Table) -> int:
    from rich.console import Console
    from rich.measure import Measurement

    # As wide as it would be with nothing folded.
    wide = Console(width=_WIDEST)
    return Measurement.get(wide, wide.options, rendered).maximum
