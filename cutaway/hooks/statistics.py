"""Statistics of any number of values, batch by batch, in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# A float32's bits without the last 17: sign, exponent and six bits of its fraction.
_SHIFT = 17
_BINS = 1 << (32 - _SHIFT)
QUANTILE_ERROR = 1 / 128
"""Largest relative error of a quantile."""
_AT_ONCE = 1 << 20
"""Values that are worked on at once: what is made of them on the way takes four times their own memory."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is known of many values. Moments are of the finite ones; NaN where there are none.

    Attributes:
        count: Finite values.
        num_nan: Values that are not a number.
        num_infinite: Values that are infinite.
        mean: Of the finite values.
        std: Of the finite values, with the divisor n.
        minimum: The smallest finite value.
        maximum: The largest finite value.
        zeros: Share of all values that are exactly zero.
    """

    count: int
    num_nan: int
    num_infinite: int
    mean: float
    std: float
    minimum: float
    maximum: float
    zeros: float
    _sketch: npt.NDArray[np.int64] = field(repr=False)

    @property
    def is_finite(self) -> bool:
        """Whether every value is."""
        return self.num_nan == 0 and self.num_infinite == 0

    def quantile(self, share: float) -> float:
        """The value that this share of the finite ones does not exceed.

        It is within 1/128 of the sorted values' element `floor(share * (count - 1))`, relative to that; the ends are
        exact. (A histogram over the leading bits of float32, as HdrHistogram has it: https://hdrhistogram.org. Like
        DDSketch, Masson, Rim and Lee, VLDB 2019, it bounds the relative error and merges without loss.)
        """
        if not 0 <= share <= 1:
            raise ValueError(f"a share lies between 0 and 1, not {share}")
        if self.count == 0:
            return math.nan
        rank = math.floor(share * (self.count - 1))
        if rank in (0, self.count - 1):
            return self.minimum if rank == 0 else self.maximum
        values, counts = _occupied(self._sketch)
        found = float(values[np.searchsorted(counts.cumsum(), rank, side="right")])
        return min(max(found, self.minimum), self.maximum)

    def histogram(self, bins: int = 48) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Counts [bins] and edges [bins + 1] between the smallest and the largest finite value.

        Values within 1/128 of an edge, relative to it, may be counted on its other side.
        """
        if self.count == 0:
            return np.zeros(bins, np.int64), np.linspace(0, 1, bins + 1)
        values, counts = _occupied(self._sketch)
        values = np.clip(values, self.minimum, self.maximum)
        around = 0.5 if self.maximum == self.minimum else 0.0
        edges = np.linspace(self.minimum - around, self.maximum + around, bins + 1)
        places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
        return np.bincount(places, weights=counts, minlength=bins).astype(np.int64), edges


class StreamingStatistics:
    """Gathers statistics from tensors of any shape; needs the same memory for any number of them.

    Example:
        >>> stream = StreamingStatistics()
        >>> for batch in batches:
        ...     stream.update(network(batch))
        >>> stream.result().quantile(0.5)
    """

    def __init__(self) -> None:
        self._moments = ChannelMoments()
        self._sketch = torch.zeros(_BINS, dtype=torch.int64)

    def update(self, values: Tensor) -> None:
        """Adds the values of a tensor: float of any shape, on any device; it is not changed."""
        if values.numel() == 0:
            return
        with torch.no_grad():
            for part in torch.split(_where_float64_is(values.detach()).reshape(-1), _AT_ONCE):
                self._add(part)

    def _add(self, values: Tensor) -> None:
        self._moments.update(values[None])
        single = values.float()
        if not self._moments.is_finite:
            single = single[values.isfinite()]
        single = single.clamp(-torch.finfo(torch.float32).max, torch.finfo(torch.float32).max)
        places = (single.contiguous().view(torch.int32) >> _SHIFT) + _BINS // 2
        self._sketch += places.bincount(minlength=_BINS).cpu()

    def merge(self, other: StreamingStatistics) -> None:
        """Adds what another one has seen, as if this one had seen it; the sketch loses nothing."""
        self._moments.merge(other._moments)
        self._sketch += other._sketch

    def result(self) -> Statistics:
        """The statistics so far."""
        moments = self._moments
        if moments.num_channels == 0:
            return Statistics(0, 0, 0, math.nan, math.nan, math.nan, math.nan, 0.0, self._sketch.numpy().copy())
        count, nan, infinite = int(moments.count[0]), int(moments.num_nan[0]), int(moments.num_infinite[0])
        return Statistics(
            count=count,
            num_nan=nan,
            num_infinite=infinite,
            mean=float(moments.mean[0]) if count else math.nan,
            std=float(moments.std[0]),
            minimum=float(moments.minimum[0]) if count else math.nan,
            maximum=float(moments.maximum[0]) if count else math.nan,
            zeros=float(moments.zeros[0]),
            _sketch=self._sketch.numpy().copy(),
        )


class ChannelMoments:
    """Count, mean, deviation, extremes and zeros of each channel, batch by batch, in float64.

    Batches are joined by Chan, Golub and LeVeque's update (1979), which does not cancel as sums of squares do.

    Attributes:
        count: int64 [C], finite values.
        num_nan: int64 [C].
        num_infinite: int64 [C].
        mean: float64 [C].
        minimum: float64 [C].
        maximum: float64 [C].
    """

    def __init__(self, channels: int = 0) -> None:
        self.count = torch.zeros(channels, dtype=torch.int64)
        self.num_nan = torch.zeros(channels, dtype=torch.int64)
        self.num_infinite = torch.zeros(channels, dtype=torch.int64)
        self._num_zeros = torch.zeros(channels, dtype=torch.int64)
        self.mean = torch.zeros(channels, dtype=torch.float64)
        self._squares = torch.zeros(channels, dtype=torch.float64)
        self.minimum = torch.full((channels,), math.inf, dtype=torch.float64)
        self.maximum = torch.full((channels,), -math.inf, dtype=torch.float64)

    @property
    def num_channels(self) -> int:
        """How many there are; 0 before the first batch."""
        return len(self.count)

    @property
    def is_finite(self) -> bool:
        """Whether every value so far is."""
        return not bool(self.num_nan.any() or self.num_infinite.any())

    @property
    def std(self) -> Tensor:
        """float64 [C], with the divisor n; NaN for channels without finite values."""
        return (self._squares / self.count).sqrt()

    @property
    def zeros(self) -> Tensor:
        """float64 [C], the share of all values that are exactly zero."""
        return self._num_zeros.double() / (self.count + self.num_nan + self.num_infinite).clamp(min=1)

    def update(self, values: Tensor) -> None:
        """Adds values: float [C, n]."""
        if values.numel() == 0:
            return
        batch = ChannelMoments(len(values))
        values = _where_float64_is(values.detach())
        if values.dtype != torch.float64:
            values = values.float()
        batch._num_zeros = (values == 0).sum(1).cpu()
        low, high = values.amin(1), values.amax(1)
        # NaN and infinities show in the extremes, so that nearly always nothing has to be asked of each value.
        finite = None if low.isfinite().all() and high.isfinite().all() else values.isfinite()
        if finite is None:
            count = torch.full((len(values),), values.shape[1], device=values.device)
        else:
            count = finite.sum(1)
            batch.num_nan = values.isnan().sum(1).cpu()
            batch.num_infinite = values.isinf().sum(1).cpu()
            low, high = values.where(finite, math.inf).amin(1), values.where(finite, -math.inf).amax(1)
            values = values.where(finite, 0)
        batch.count = count.cpu()
        batch.minimum, batch.maximum = low.cpu().double(), high.cpu().double()
        some = count.clamp(min=1)
        about = values.sum(1, dtype=torch.float64) / some
        apart = values - about[:, None].to(values.dtype)
        apart = apart if finite is None else apart.where(finite, 0)
        # The mean was rounded to the values' own precision: what it lacks is put right here.
        lack = apart.sum(1, dtype=torch.float64) / some
        batch.mean = (about.to(values.dtype).double() + lack).cpu()
        batch._squares = (apart.double().square_().sum(1) - lack.square() * count).clamp(min=0).cpu()
        self.merge(batch)

    def merge(self, other: ChannelMoments) -> None:
        """Adds what another one has seen."""
        if other.num_channels == 0:
            return
        if self.num_channels == 0:
            self.__init__(other.num_channels)  # type: ignore[misc]
        count = self.count + other.count
        share = other.count.double() / count.clamp(min=1)
        apart = other.mean - self.mean
        self._squares += other._squares + apart.square() * self.count * share
        self.mean += apart * share
        self.count = count
        self.num_nan += other.num_nan
        self.num_infinite += other.num_infinite
        self._num_zeros += other._num_zeros
        self.minimum = torch.minimum(self.minimum, other.minimum)
        self.maximum = torch.maximum(self.maximum, other.maximum)


def _where_float64_is(values: Tensor) -> Tensor:
    """On the values' own device, or the CPU where that has no float64."""
    return values.cpu() if values.device.type == "mps" else values


def _occupied(sketch: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The middle values of the bins that hold something, in ascending order, and what they hold."""
    places = np.flatnonzero(sketch)
    bits = ((places - _BINS // 2) << _SHIFT).astype(np.int32)
    near = bits.view(np.float32).astype(np.float64)
    far = (bits | ((1 << _SHIFT) - 1)).view(np.float32).astype(np.float64)
    # The bin at zero holds zeros, and numbers too small for a normal float32.
    tiny = np.abs(near) < np.finfo(np.float32).tiny
    with np.errstate(invalid="ignore"):
        values = np.where(tiny, 0.0, (near + far) / 2)
    order = np.argsort(values, kind="stable")
    return values[order], sketch[places][order]
