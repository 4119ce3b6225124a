"""How much of the input a layer sees: receptive fields, followed from operation to operation while a network runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from cutaway.inspect.layers.axes import Axis, Unknown, length_of
from cutaway.inspect.layers.field_rules import rule_of
from cutaway.inspect.layers.operations import Operation

Number = int | float


@dataclass(frozen=True)
class ReceptiveField:
    """What one position of a feature map sees of the input, a number for each spatial axis.

    Attributes:
        size: Input pixels from the first to the last that can change it, padding included. After upsampling, where
            positions see differently much, some may see a step of the coarser map more.
        stride: Input pixels from one position to the next; below 1 after upsampling.
        offset: Where the first position's field begins; below 0 in the padding.
    """

    size: tuple[int, ...]
    stride: tuple[Number, ...]
    offset: tuple[Number, ...]


class FieldTracker:
    """Follows receptive fields through a run, from operation to operation.

    Convolutions and pools widen a field, branches that meet see what any of them sees. A tensor whose values depend on
    the whole input (after global pooling and squeeze-and-excitation, attention, group or instance norm, a linear layer
    over positions) or on it in a way that is not followed has none.
    """

    def __init__(self) -> None:
        self._layouts: Any = WeakIdKeyDictionary()

    def begin(self, tensor: Tensor) -> None:
        """Takes a tensor [N, C, ...] as the input, every dimension after the channels as a spatial axis."""
        self._layouts[tensor] = tuple(
            ((length, Axis(at - 2)) if at > 1 else (length, None),) for at, length in enumerate(tensor.shape)
        )

    def field(self, tensor: Tensor) -> ReceptiveField | None:
        """What a position of a tensor sees; None where that is not known, or all of the input."""
        layout = self._layouts.get(tensor)
        axes = [axis for dim in layout or () for _, axis in dim if axis is not None]
        axes.sort(key=lambda axis: axis.index)
        if not axes or [axis.index for axis in axes] != list(range(len(axes))):
            return None
        return ReceptiveField(
            size=tuple(math.ceil(axis.size) for axis in axes),
            stride=tuple(_plain(axis.stride) for axis in axes),
            offset=tuple(_plain(axis.start) for axis in axes),
        )

    def follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Takes note of one call of an ATen operator, as a `TorchDispatchMode` sees it."""
        call = Operation(func, args, kwargs, output)
        if not any(tensor in self._layouts for tensor in call.tensors):
            return
        rule = rule_of(call)
        if rule is None:
            return
        try:
            layouts = rule(call, self._layouts)
        # An overload whose arguments are none that its rule knows loses the field, and never stops the network.
        except (Unknown, LookupError, TypeError, ValueError):
            layouts = []
        for at, tensor in enumerate(call.outputs):
            layout = layouts[at] if at < len(layouts) else None
            fits = layout is not None and tuple(length_of(dim) for dim in layout) == tuple(tensor.shape)
            self._layouts[tensor] = layout if fits else None


def _plain(value: Fraction) -> Number:
    return int(value) if value.denominator == 1 else float(value)
