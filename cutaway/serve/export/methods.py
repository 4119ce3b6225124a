"""The formulas of class activation maps: from a layer's feature maps and the score's gradient there to one map.

Another method is one more function and one more line in `METHODS`; tracing, conversion and verification stay as they
are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from cutaway.errors import ExportError

Method = Callable[[Tensor, Tensor], Tensor]
"""(activations [N, C, h, w], gradients [N, C, h, w]) -> map [N, h, w], zero or above, not normalised."""


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Selvaraju et al., "Grad-CAM", arXiv:1610.02391, equations 1 and 2: ReLU of the channels' weighted sum.

    A channel's weight is the mean of its gradient over all positions.
    """
    weights = gradients.mean((2, 3), keepdim=True)
    return torch.relu((weights * activations).sum(1))


METHODS: Mapping[str, Method] = {"grad-cam": grad_cam}


def find_method(name: str) -> Method:
    """The formula of that name.

    Raises:
        ExportError: There is none.
    """
    if name not in METHODS:
        raise ExportError(f"There is no method named '{name}'.", hint=f"Known are {', '.join(METHODS)}.")
    return METHODS[name]
