"""The kernels of a network's convolutions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.hooks import named_modules


@dataclass(frozen=True)
class Kernels:
    """A convolution's weights.

    Attributes:
        layer: Its name.
        weights: float32 [C_out, C_in, h, w], on the CPU.
    """

    layer: str
    weights: Tensor

    @property
    def norms(self) -> Tensor:
        """float32 [C_out]: the length of each kernel as a vector."""
        return self.weights.flatten(1).square().sum(1).sqrt()

    @property
    def dead(self) -> list[int]:
        """Kernels that are zero in every weight."""
        return [int(index) for index in (self.norms == 0).nonzero()[:, 0]]


def first_kernels(network: nn.Module) -> Kernels | None:
    """The weights of the first two-dimensional convolution, or None where there is none."""
    for name, module in named_modules(network).items():
        if isinstance(module, nn.Conv2d):
            return _kernels(name, module)
    return None


def layer_kernels(network: nn.Module, layer: str) -> Kernels:
    """The weights of a two-dimensional convolution by name.

    Raises:
        InspectionError: There is none of that name; the hint lists some that are there.
    """
    modules = named_modules(network)
    module = modules.get(layer)
    if not isinstance(module, nn.Conv2d):
        known = [name for name, candidate in modules.items() if isinstance(candidate, nn.Conv2d)]
        raise InspectionError(
            f"No two-dimensional convolution is called {layer!r}.",
            hint=f"There are {', '.join(known[:12])}." if known else "This network has none.",
        )
    return _kernels(layer, module)


def _kernels(name: str, module: nn.Conv2d) -> Kernels:
    return Kernels(name, module.weight.detach().float().cpu().clone())
