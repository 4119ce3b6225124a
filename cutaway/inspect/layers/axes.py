"""A tensor's dimensions as positions in the picture: how far each sees, joined or lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction


class Unknown(Exception):  # noqa: N818 - no error, but a way out of the rules
    """The field is not followed through this operation."""


@dataclass(frozen=True)
class Axis:
    """A spatial axis of the input as a dimension of a tensor sees it, in input pixels."""

    index: int
    size: Fraction = Fraction(1)
    stride: Fraction = Fraction(1)
    start: Fraction = Fraction(0)

    def window(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> Axis:
        """A convolution or pool over it."""
        return replace(
            self,
            size=self.size + (dilation * (kernel - 1)) * self.stride,
            stride=self.stride * stride,
            start=self.start - padding * self.stride,
        )

    def spread(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> Axis:
        """A transposed convolution, whose outputs see one or another number of inputs: the largest."""
        reach = dilation * (kernel - 1) + 1
        return replace(
            self,
            size=self.size + (math.ceil(Fraction(reach, stride)) - 1) * self.stride,
            stride=self.stride / stride,
            start=self.start + math.ceil(Fraction(padding - reach + 1, stride)) * self.stride,
        )

    def joined(self, other: Axis) -> Axis:
        """What sees everything that either sees."""
        if (self.index, self.stride) != (other.index, other.stride):
            raise Unknown
        start = min(self.start, other.start)
        end = max(self.start + self.size, other.start + other.size)
        return replace(self, size=end - start, start=start)


# A dimension is one or more factors, since views merge dimensions and take them apart again.
Dim = tuple[tuple[int, Axis | None], ...]
Layout = tuple[Dim, ...]


def only_axis(dim: Dim) -> Axis:
    """The axis that a dimension is, alone."""
    ((_, axis),) = dim if len(dim) == 1 else ((0, None),)
    if axis is None:
        raise Unknown
    return axis


def joined(dims: list[Dim]) -> Dim:
    """The dimension of what sees everything that any of `dims` sees."""
    first, *others = dims
    for other in others:
        if not sees(first) and not sees(other):
            continue
        if [length for length, _ in first] != [length for length, _ in other]:
            raise Unknown
        first = tuple((length, _join(one, two)) for (length, one), (_, two) in zip(first, other, strict=True))
    return first


def _join(one: Axis | None, other: Axis | None) -> Axis | None:
    if one is None or other is None:
        if one is not other:
            raise Unknown
        return None
    return one.joined(other)


def refuse_axes(dims: Sequence[Dim]) -> None:
    """Gives up where one of the dimensions is a position in the picture."""
    if any(sees(dim) for dim in dims):
        raise Unknown


def sees(dim: Sequence[tuple[int, Axis | None]]) -> bool:
    """Whether a dimension is a position in the picture, or holds one."""
    return any(axis is not None for _, axis in dim)


def length_of(dim: Sequence[tuple[int, Axis | None]]) -> int:
    """The length of a dimension."""
    return math.prod(length for length, _ in dim)
