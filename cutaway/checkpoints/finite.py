"""Weights that are numbers: NaN and infinities are found before anything is computed with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cutaway.errors import BundleError


def check_finite(tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Looks for NaN and infinities in the floating-point tensors.

    Args:
        tensors: By name, on any device.
        where: How the bundle or file is called in the error.

    Raises:
        BundleError: There is one; names the first such tensor and counts them.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        # A sum is one pass without a temporary, and no NaN or infinity gets lost in it. It may overflow by itself.
        if torch.isfinite(tensor.sum(dtype=torch.float32 if tensor.dtype.itemsize < 4 else None)):
            continue
        count = int((~torch.isfinite(tensor)).sum())
        if count:
            raise BundleError(
                f"Tensor '{name}' of {where} has {count} of {tensor.numel()} values that are NaN or infinite.",
                hint="Such a network answers nonsense. --allow-nan reads it all the same.",
            )
