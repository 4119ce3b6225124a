"""Initial weights by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.nn import init
from torch.nn.modules.conv import _ConvNd

from cutaway.settings.network import Init

_Fill = Callable[[Tensor, float], object]
# From weights and the scale that the person chose to weights filled in place.
_FILLS: Mapping[Init, _Fill] = {
    "kaiming-normal": lambda weight, _: init.kaiming_normal_(weight, nonlinearity="relu"),
    "kaiming-uniform": lambda weight, _: init.kaiming_uniform_(weight, nonlinearity="relu"),
    "xavier-normal": lambda weight, _: init.xavier_normal_(weight),
    "xavier-uniform": lambda weight, _: init.xavier_uniform_(weight),
    "orthogonal": lambda weight, _: init.orthogonal_(weight),
    "normal": lambda weight, scale: init.normal_(weight, std=scale),
    "truncated-normal": lambda weight, scale: init.trunc_normal_(weight, std=scale, a=-2 * scale, b=2 * scale),
    "uniform": lambda weight, scale: init.uniform_(weight, -scale, scale),
    "zeros": lambda weight, _: init.zeros_(weight),
    "zero-bias": lambda *_: None,
}


def initialise(network: nn.Module, name: Init, scale: float) -> None:
    """Fills the weights of linear, convolution and attention layers in place, and their biases with zero.

    Norms stay as they are. Draws from torch's global generator, layer by layer.

    Args:
        network: On the CPU, so that the same seed gives the same weights for every device.
        name: `default` leaves everything as torch made it; `zero-bias` all but the biases. Kaiming's are for ReLU and
            by the number of inputs (He et al., arXiv:1502.01852), Xavier's as in Glorot & Bengio, 2010.
        scale: The standard deviation of `normal` and `truncated-normal`, the largest value of `uniform`.
    """
    if name == "default":
        return
    for module in network.modules():
        if isinstance(module, nn.Linear | _ConvNd):
            _FILLS[name](module.weight, scale)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            for weight in module.in_proj_weight.data.chunk(3):
                _FILLS[name](weight, scale)
            if module.in_proj_bias is not None:
                init.zeros_(module.in_proj_bias)
