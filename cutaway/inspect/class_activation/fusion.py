"""One map from several layers' maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.errors import InspectionError

Fusion = Literal["mean", "max"]


def fused(maps: Sequence[Tensor], fusion: Fusion) -> Tensor:
    """Fuses the maps of several layers; one layer's map stays as it is, unscaled.

    Layers differ in their units, so each map is first divided by its own strongest value (an empty one stays empty),
    then resized to the finest map's size, bilinearly, and last the mean or the maximum is taken at each position.

    Args:
        maps: Of each layer float [N, T, h, w].
        fusion: `mean` or `max`.

    Returns:
        float [N, T, h, w] of the largest h and w.
    """
    if fusion not in get_args(Fusion):
        raise InspectionError(f"Layers are fused by 'mean' or 'max', not {fusion!r}.")
    if len(maps) == 1:
        return maps[0]
    height, width = max(each.shape[2] for each in maps), max(each.shape[3] for each in maps)
    scaled = [F.interpolate(_to_one(each), (height, width), mode="bilinear", align_corners=False) for each in maps]
    stacked = torch.stack(scaled)
    return stacked.mean(0) if fusion == "mean" else stacked.amax(0)


def _to_one(maps: Tensor) -> Tensor:
    strongest = maps.abs().amax((2, 3), keepdim=True)
    return maps / torch.where(strongest > 0, strongest, 1)
