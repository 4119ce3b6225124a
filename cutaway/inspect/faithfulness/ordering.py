"""Heat-maps as an order of pixels, which is all that most measures of faithfulness take from them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.errors import InspectionError


def fitted_maps(heatmaps: Tensor, inputs: Tensor) -> Tensor:
    """Heat-maps at the pictures' resolution, enlarged bilinearly where they are coarser: float [N, H, W].

    Args:
        heatmaps: float [N, h, w].
        inputs: float [N, C, H, W].

    Raises:
        InspectionError: There is not one map for each picture, or one holds values that are not finite.
    """
    if heatmaps.dim() != 3 or len(heatmaps) != len(inputs):
        raise InspectionError(
            f"There has to be a heat-map [h, w] for each of the {len(inputs)} pictures, not {list(heatmaps.shape)}."
        )
    if not heatmaps.isfinite().all():
        raise InspectionError(
            "A heat-map holds values that are not finite.", hint="Have the network's weights diverged in training?"
        )
    # At least float32: in half precision many pixels would tie, and their order would be chance.
    heatmaps = heatmaps.detach().to(inputs.device, torch.promote_types(heatmaps.dtype, torch.float32))
    if heatmaps.shape[1:] == inputs.shape[2:]:
        return heatmaps
    return F.interpolate(heatmaps[:, None], inputs.shape[2:], mode="bilinear")[:, 0]


def pixel_ranks(heatmaps: Tensor, seed: int = 0) -> Tensor:
    """The place of each pixel, 0 for the strongest; equal ones stand in random order, not from left to right.

    Args:
        heatmaps: float [N, H, W].
        seed: Of the order among equals, which differs from picture to picture.

    Returns:
        int64 [N, H, W].
    """
    flat = heatmaps.flatten(1)
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.stack([torch.randperm(flat.shape[1], generator=generator) for _ in flat]).to(flat.device)
    order = shuffled.gather(1, flat.gather(1, shuffled).argsort(dim=1, descending=True, stable=True))
    ranks = torch.empty_like(order)
    ranks.scatter_(1, order, torch.arange(flat.shape[1], device=flat.device).expand_as(order))
    return ranks.reshape(heatmaps.shape)
