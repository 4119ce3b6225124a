"""Maps from a layer's feature maps A and the gradient G of the score at them.

Every formula takes A and G as float [N, C, h, w] and returns the map before the last ReLU, [N, h, w].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Formula = Callable[[Tensor, Tensor], Tensor]

_CANCELLED = 1e-5
"""A sum that is smaller than this share of what it adds up is made of its own rounding."""


def map_by(formula: Formula, maps: Tensor, gradient: Tensor) -> Tensor:
    """The formula's map, with zero wherever its terms cancel each other out and only their rounding is left.

    What the terms amount to without their signs is the formula's value for |A| and |G|. So a map is also zero where
    the gradient of every channel adds up to nothing, as it does below a layer that takes the mean away.

    Args:
        formula: One of this file.
        maps: float [N, C, h, w].
        gradient: float [N, C, h, w].

    Returns:
        Before the last ReLU, [N, h, w].
    """
    values = formula(maps, gradient)
    largest = formula(maps.abs(), gradient.abs()).amax((1, 2), keepdim=True)
    # Values that are not finite stay, for whoever looks for them.
    return values.masked_fill(values.abs() < _CANCELLED * largest, 0)


def grad_cam_map(maps: Tensor, gradient: Tensor) -> Tensor:
    """Selvaraju et al., arXiv:1610.02391, equations 1 and 2: channel k weighs the mean of G_k over all positions."""
    return _weighted(gradient.mean((2, 3)), maps)


def grad_cam_plus_plus_map(maps: Tensor, gradient: Tensor) -> Tensor:
    """Chattopadhyay et al., arXiv:1710.11063, equations 5 and 19.

    Channel k weighs sum_ij alpha_ij ReLU(G_ij), where alpha_ij = G_ij^2 / (2 G_ij^2 + (sum_ab A_ab) G_ij^3), which is
    1 / (2 + (sum_ab A_ab) G_ij) wherever G_ij is not zero: so it is computed, since the powers of a small gradient
    vanish in float32. The paper's G is that of exp(logit), which is exp(logit) times the logit's: one positive factor
    for the whole map, left out here to keep the logit's unit.
    """
    positive = gradient.relu()
    # Where a layer's sum is negative (no ReLU before it) the denominator may be zero; such a position says nothing.
    denominator = 2 + maps.sum((2, 3), keepdim=True) * gradient
    alpha = _inverse(denominator, 2 + maps.abs().sum((2, 3), keepdim=True) * gradient.abs())
    return _weighted((alpha * positive).sum((2, 3)), maps)


def hirescam_map(maps: Tensor, gradient: Tensor) -> Tensor:
    """Draelos and Carin, arXiv:2011.08891: the sum over channels of G times A at each position."""
    return torch.einsum("nchw,nchw->nhw", gradient, maps)


def layercam_map(maps: Tensor, gradient: Tensor) -> Tensor:
    """Jiang et al., LayerCAM, IEEE TIP 2021, equations 5 and 6: the sum over channels of ReLU(G) times A."""
    return torch.einsum("nchw,nchw->nhw", gradient.relu(), maps)


def grad_cam_elementwise_map(maps: Tensor, gradient: Tensor) -> Tensor:
    """The sum over channels of ReLU(G times A): what speaks for the class, with nothing set against it."""
    return (gradient * maps).relu().sum(1)


def xgrad_cam_map(maps: Tensor, gradient: Tensor) -> Tensor:
    """Fu et al., arXiv:2008.02312, equation 7: channel k weighs the mean of G_k weighted by A_k.

    A channel whose sum over positions is zero, or zero but for rounding, has no such mean and weighs nothing.
    """
    products = torch.einsum("nchw,nchw->nc", gradient, maps)
    return _weighted(products * _inverse(maps.sum((2, 3)), maps.abs().sum((2, 3))), maps)


def _inverse(total: Tensor, size: Tensor) -> Tensor:
    """1 / total; 0 where the parts of it, which add up to `size` without their signs, cancel each other out."""
    cancelled = total.abs() <= _CANCELLED * size
    return torch.where(cancelled, 0, 1 / torch.where(cancelled, 1, total))


def _weighted(weights: Tensor, maps: Tensor) -> Tensor:
    # What `einsum` makes of "nc,nchw->nhw" too, in more time.
    return torch.bmm(weights[:, None], maps.flatten(2)).view(maps.shape[0], *maps.shape[2:])
