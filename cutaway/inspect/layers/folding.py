"""A layer table seen from further away: what lies deep is counted to the module around it."""

from __future__ import annotations

from dataclasses import replace

from cutaway.errors import InspectionError
from cutaway.inspect.layers.rows import LayerRow, LayerTable


def fold(table: LayerTable, depth: int) -> LayerTable:
    """Leaves out the rows deeper than `depth` and adds what they count to the module around them; totals stay.

    Args:
        table: The table.
        depth: 0 for the network alone, 1 for its children too, and so on.

    Raises:
        InspectionError: The depth is below 0.
    """
    if depth < 0:
        raise InspectionError(f"A depth of {depth} is below the network itself, which is 0.")
    deeper: dict[str, list[LayerRow]] = {}
    for row in table.rows:
        if row.depth > depth:
            path = (row.parent or "") if row.is_operation else row.name
            deeper.setdefault(".".join(path.split(".")[:depth]), []).append(row)
    kept = [row for row in table.rows if row.depth <= depth]
    return replace(table, rows=tuple(_with(row, deeper.get(row.name, [])) for row in kept))


def _with(row: LayerRow, inside: list[LayerRow]) -> LayerRow:
    if not inside or row.is_operation:
        return row
    counted = [row, *inside]
    return replace(
        row,
        is_leaf=True,
        trainable=sum(each.trainable for each in counted),
        frozen=sum(each.frozen for each in counted),
        buffers=sum(each.buffers for each in counted),
        stored_bytes=sum(each.stored_bytes for each in counted),
        macs=sum(each.macs for each in counted),
        activation_bytes=sum(each.activation_bytes for each in counted),
    )
