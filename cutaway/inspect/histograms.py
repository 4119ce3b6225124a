"""How the numbers in a network are distributed, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError


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

    @property
    def is_finite(self) -> bool:
        """Whether every value is."""
        return self.num_nan == 0 and self.num_infinite == 0


def weight_histograms(network: nn.Module, *, bins: int = 48) -> tuple[Histogram, ...]:
    """Histograms of the weights: parameters of two or more dimensions, shared ones once."""
    return tuple(
        tensor_histogram(name, parameter, bins=bins)
        for name, parameter in network.named_parameters()
        if parameter.dim() > 1
    )


def gradient_histograms(network: nn.Module, *, bins: int = 48) -> tuple[Histogram, ...]:
    """Histograms of the gradients that lie in `.grad`, of the same parameters as `weight_histograms`.

    Raises:
        InspectionError: There are no gradients.
    """
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
    values = tensor.detach().flatten().double().cpu()
    finite = values[torch.isfinite(values)]
    counts, edges = np.histogram(finite.numpy(), bins=bins)
    return Histogram(
        name=name,
        shape=tuple(tensor.shape),
        counts=counts.astype(np.int64),
        edges=edges.astype(np.float64),
        mean=float(finite.mean()) if len(finite) else float("nan"),
        std=float(finite.std(correction=0)) if len(finite) else float("nan"),
        zeros=float((values == 0).double().mean()) if len(values) else 0.0,
        num_nan=int(values.isnan().sum()),
        num_infinite=int(values.isinf().sum()),
    )
