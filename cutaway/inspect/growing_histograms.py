"""Histograms of more values than memory holds."""

from __future__ import annotations

import copy
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cutaway.inspect.histograms import FAR, QUANTILES, Histogram

_BINS = 4096


class GrowingHistogram:
    """Counts values batch by batch in bins of one width, which doubles where a value lies outside of them all.

    Counts, mean, standard deviation, zeros and extremes are exact; quantiles are off by a bin's width at most, which is
    2^-10 of the largest absolute value or less, and outliers are counted by whole bins.
    """

    def __init__(self) -> None:
        self._counts = torch.zeros(_BINS, dtype=torch.int64)
        self._reach = 0.0
        self._number = 0
        self._mean = 0.0
        self._squares = 0.0
        self._waiting = 0
        self._zeros = self._nan = self._infinite = 0
        self._smallest, self._largest = math.inf, -math.inf

    def add(self, tensor: Tensor) -> None:
        """Counts a tensor's values."""
        values = tensor.detach().flatten().cpu().double()
        finite = values[torch.isfinite(values)]
        self._nan += int(values.isnan().sum())
        self._infinite += int(values.isinf().sum())
        self._zeros += int((finite == 0).sum())
        if not len(finite):
            return
        self._smallest = min(self._smallest, float(finite.min()))
        self._largest = max(self._largest, float(finite.max()))
        if self._smallest == self._largest == 0:
            self._waiting += len(finite)  # no scale can be told yet
        else:
            self._grow(max(abs(self._smallest), abs(self._largest)))
            self._count(finite)
        # Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
        number, mean = len(finite), float(finite.mean())
        whole = self._number + number
        self._squares += float((finite - mean).square().sum())
        self._squares += (mean - self._mean) ** 2 * self._number * number / whole
        self._mean += (mean - self._mean) * number / whole
        self._number = whole

    def histogram(self, name: str, shape: tuple[int, ...], *, bins: int = 48) -> Histogram:
        """What was counted so far, in up to `bins` bins of whole ones."""
        if self._waiting:
            counted = copy.deepcopy(self)
            counted._grow(1.0)
            return counted.histogram(name, shape, bins=bins)
        total = self._number + self._nan + self._infinite
        counts, edges = self._coarse(bins)
        std = math.sqrt(self._squares / self._number) if self._number else math.nan
        return Histogram(
            name=name,
            shape=shape,
            counts=counts,
            edges=edges,
            mean=self._mean if self._number else math.nan,
            std=std,
            zeros=self._zeros / total if total else 0.0,
            num_nan=self._nan,
            num_infinite=self._infinite,
            smallest=self._smallest if self._number else math.nan,
            largest=self._largest if self._number else math.nan,
            quantiles=self._quantiles(),
            num_outliers=self._beyond(self._mean - FAR * std, self._mean + FAR * std) if std > 0 else 0,
        )

    def _count(self, finite: Tensor) -> None:
        places = ((finite + self._reach) * (_BINS / (2 * self._reach))).long().clamp_(0, _BINS - 1)
        self._counts += places.bincount(minlength=_BINS)

    def _grow(self, largest: float) -> None:
        if self._reach == 0.0:
            # A power of two, so that doubling loses nothing; not so small that dividing by a bin's width overflows.
            self._reach = 2.0 ** max(math.ceil(math.log2(largest)), -900)
            self._counts[_BINS // 2] += self._waiting
            self._waiting = 0
        while largest > self._reach:
            merged = self._counts.reshape(-1, 2).sum(1)
            self._counts = torch.cat([merged.new_zeros(_BINS // 4), merged, merged.new_zeros(_BINS // 4)])
            self._reach *= 2

    def _fine(self) -> npt.NDArray[np.float64]:
        return np.linspace(-self._reach, self._reach, _BINS + 1)

    def _coarse(self, bins: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        used = np.flatnonzero(self._counts.numpy())
        if not len(used):
            return np.zeros(bins, dtype=np.int64), np.linspace(0.0, 1.0, bins + 1)
        first, number = int(used[0]), int(used[-1] - used[0]) + 1
        group = math.ceil(number / bins)
        number = math.ceil(number / group) * group
        counts = np.zeros(number, dtype=np.int64)
        present = self._counts.numpy()[first : first + number]
        counts[: len(present)] = present
        edges = -self._reach + (first + np.arange(0, number + 1, group)) * (2 * self._reach / _BINS)
        return counts.reshape(-1, group).sum(1), edges.astype(np.float64)

    def _quantiles(self) -> tuple[float, ...]:
        if not self._number:
            return (math.nan,) * len(QUANTILES)
        below = np.concatenate([[0], np.cumsum(self._counts.numpy())])
        found = np.interp(np.asarray(QUANTILES) * self._number, below, self._fine())
        return tuple(float(value) for value in np.clip(found, self._smallest, self._largest))

    def _beyond(self, low: float, high: float) -> int:
        edges = self._fine()
        outside = (edges[1:] < low) | (edges[:-1] > high)
        return int(self._counts.numpy()[outside].sum())
