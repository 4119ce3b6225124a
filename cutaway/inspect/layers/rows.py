"""What a layer table holds: a row for each module and operation, and their sums."""

from __future__ import annotations

from dataclasses import dataclass

from cutaway.inspect.layers.receptive_fields import Number

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerRow:
    """One module, or one operation that is no module, with what is its own: what runs inside a module has rows of its
    own, so that columns add up.

    Attributes:
        name: Dotted name; empty for the network itself. An operation is named by the module that it runs in, its
            name there and its number: `layer1.0:add#0`.
        kind: The module's class, or the operation's name.
        depth: 0 for the network, 1 for its children, and so on.
        is_leaf: Whether it has no modules inside.
        is_operation: Whether it is an operation that a module's `forward` calls, such as `F.relu` or `+`.
        is_view: Whether it is an operation that only looks at tensors in another way, such as `permute`.
        order: Position among the first calls, with 0 for the network itself; None where its `forward` is never called
            (a container, or weights that the module around it uses).
        calls: How often it is called.
        input_shapes: Of the tensors it takes at its first call.
        output_shapes: Of the tensors it returns at its first call.
        dtype: Of its own parameters, or else of what it returns.
        device: Where its own parameters lie, or else those of the nearest module around it that has some.
        receptive_field: Input pixels that one position of its first output sees along each spatial axis; None where
            it sees all of the input, has no positions, or is not followed so far (see `FieldTracker`).
        field_stride: Input pixels from one position to the next.
        field_offset: Where the first position's field begins, below 0 in the padding.
        trainable: Numbers in its own parameters that require a gradient.
        frozen: Numbers in its own parameters that don't.
        shared_with: The row that already counts parameters which this module uses too.
        buffers: Numbers in its own buffers.
        stored_bytes: Bytes of its own parameters and buffers.
        macs: Multiply-accumulates of its own operations over all calls.
        activation_bytes: Bytes that its own operations newly write over all calls; views and in-place operations cost
            none.
    """

    name: str
    kind: str
    depth: int
    is_leaf: bool
    is_operation: bool
    is_view: bool
    order: int | None
    calls: int
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    dtype: str | None
    device: str | None
    receptive_field: tuple[int, ...] | None
    field_stride: tuple[Number, ...] | None
    field_offset: tuple[Number, ...] | None
    trainable: int
    frozen: int
    shared_with: str | None
    buffers: int
    stored_bytes: int
    macs: int
    activation_bytes: int

    @property
    def parameters(self) -> int:
        """Trainable and frozen together."""
        return self.trainable + self.frozen

    @property
    def has_own(self) -> bool:
        """Whether the row counts anything, or is a layer that runs; views are none."""
        counted = self.parameters or self.buffers or self.macs or self.activation_bytes or self.shared_with
        return bool(counted) or (self.is_leaf and not self.is_view and self.calls > 0)

    @property
    def parent(self) -> str | None:
        """The name of the module around it; None for the network itself."""
        if not self.name:
            return None
        return self.name.rpartition(":")[0] if self.is_operation else self.name.rpartition(".")[0]


@dataclass(frozen=True)
class LayerTotals:
    """Sums over all rows; the fields mean what they mean in `LayerRow`."""

    trainable: int
    frozen: int
    buffers: int
    stored_bytes: int
    macs: int
    activation_bytes: int

    @property
    def parameters(self) -> int:
        """Trainable and frozen together."""
        return self.trainable + self.frozen


@dataclass(frozen=True)
class LayerTable:
    """A network, layer by layer.

    Attributes:
        network: The network's class.
        input_shapes: Of the tensors that it took, with the batch: [N, C, H, W] for pictures.
        batch_size: Samples in the batch; None where the inputs were given as they are.
        rows: One per module and operation, in the order in which they are first called, each after the module around
            it.
        totals: Sums over the rows.
    """

    network: str
    input_shapes: tuple[Shape, ...]
    batch_size: int | None
    rows: tuple[LayerRow, ...]
    totals: LayerTotals


def sums(rows: tuple[LayerRow, ...]) -> LayerTotals:
    """Adds up the rows."""
    return LayerTotals(
        trainable=sum(row.trainable for row in rows),
        frozen=sum(row.frozen for row in rows),
        buffers=sum(row.buffers for row in rows),
        stored_bytes=sum(row.stored_bytes for row in rows),
        macs=sum(row.macs for row in rows),
        activation_bytes=sum(row.activation_bytes for row in rows),
    )
