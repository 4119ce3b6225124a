"""How the numbers in a network are distributed, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.hooks import require_initialized

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FAR = 6.0


@dataclass(frozen=True)
class Histogram:
    """The distribution of one tensor's finite values.

    Attributes:
        name: The parameter's dotted name.
        shape: Of the tensor.
        counts: int64 [bins].
        edges: float64 [bins + 1].
        mean: Of the finite values.
        std: Of the finite values, with the divisor n.
        zeros: Share of all values that are exactly zero.
        num_nan: Values that are not a number.
        num_infinite: Values that are infinite.
        smallest: Of the finite values; NaN where there are none, as the next two.
        largest: Of the finite values.
        quantiles: Of the finite values, at `QUANTILES`.
        num_outliers: Finite values farther than `FAR` standard deviations from the mean.
    """

    name: str
    shape: tuple[int, ...]
    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]
    mean: float
    std: float
    zeros: float
    num_nan: int
    num_infinite: int
    smallest: float
    largest: float
    quantiles: tuple[float, ...]
    num_outliers: int

    @property
    def num_finite(self) -> int:
        """Values that `counts` counts."""
        return int(self.counts.sum())

    @property
    def is_finite(self) -> bool:
        """Whether every value is."""
        return self.num_nan == 0 and self.num_infinite == 0


def weight_histograms(network: nn.Module, *, bins: int = 48) -> tuple[Histogram, ...]:
    """Histograms of the weights: parameters of two or more dimensions, shared ones once.

    Raises:
        InspectionError: A parameter has no shape yet.
    """
    require_initialized(network)
    return tuple(
        tensor_histogram(name, parameter, bins=bins)
        for name, parameter in network.named_parameters()
        if parameter.dim() > 1
    )


def bias_histograms(network: nn.Module, *, bins: int = 48) -> tuple[Histogram, ...]:
    """Histograms of the parameters that `weight_histograms` leaves out: biases, and norms' scales and shifts.

    Raises:
        InspectionError: A parameter has no shape yet.
    """
    require_initialized(network)
    return tuple(
        tensor_histogram(name, parameter, bins=bins)
        for name, parameter in network.named_parameters()
        if parameter.dim() <= 1
    )


def gradient_histograms(network: nn.Module, *, bins: int = 48) -> tuple[Histogram, ...]:
    """Histograms of the gradients that lie in `.grad`, of the same parameters as `weight_histograms`.

    Raises:
        InspectionError: There are no gradients, or a parameter has no shape yet.
    """
    require_initialized(network)
    found = tuple(
        tensor_histogram(name, parameter.grad, bins=bins)
        for name, parameter in network.named_parameters()
        if parameter.dim() > 1 and parameter.grad is not None
    )
    if not found:
        raise InspectionError(
            "The network holds no gradients.", hint="Call this after `loss.backward()` and before `zero_grad()`."
        )
    return found


def tensor_histograms(tensors: Iterable[tuple[str, Tensor]], *, bins: int = 48) -> tuple[Histogram, ...]:
    """Histograms of any named tensors."""
    return tuple(tensor_histogram(name, tensor, bins=bins) for name, tensor in tensors)


def tensor_histogram(name: str, tensor: Tensor, *, bins: int = 48) -> Histogram:
    """The histogram of one tensor between its smallest and largest finite value."""
    values = tensor.detach().flatten().cpu().double()
    finite = values[torch.isfinite(values)].numpy()
    # Sums, squares and differences of numbers near float64's end would leave it.
    unit = 2.0**600 if len(finite) and np.abs(finite).max() > 1e150 else 1.0
    scaled = finite / unit
    counts, edges = np.histogram(scaled, bins=bins, range=_range(scaled, bins))
    mean, std = (float(scaled.mean()), float(scaled.std())) if len(finite) else (float("nan"), float("nan"))
    return Histogram(
        name=name,
        shape=tuple(tensor.shape),
        counts=counts.astype(np.int64),
        edges=edges.astype(np.float64) * unit,
        mean=mean * unit,
        std=std * unit,
        zeros=float((values == 0).double().mean()) if len(values) else 0.0,
        num_nan=int(values.isnan().sum()),
        num_infinite=int(values.isinf().sum()),
        smallest=float(finite.min()) if len(finite) else float("nan"),
        largest=float(finite.max()) if len(finite) else float("nan"),
        quantiles=tuple(map(float, np.quantile(scaled, QUANTILES) * unit))
        if len(finite)
        else (float("nan"),) * len(QUANTILES),
        num_outliers=int((np.abs(scaled - mean) > FAR * std).sum()) if std > 0 else 0,
    )


def _range(values: npt.NDArray[np.float64], bins: int) -> tuple[float, float] | None:
    """Where `values` lie too close together for so many bins, a range that is wide enough for them."""
    if not len(values) or values.min() == values.max():
        return None
    low, high = float(values.min()), float(values.max())
    width = 2 * float(np.spacing(max(abs(low), abs(high))))
    return None if (high - low) / bins >= width else (low - bins * width, high + bins * width)
