"""Cutting pictures into segments, the features that an ablation takes away."""

from __future__ import annotations

import torch
from torch import Tensor

from cutaway.errors import InspectionError


def grid_segments(inputs: Tensor, rows: int = 7, columns: int | None = None) -> Tensor:
    """A grid of rectangles, as even as the pixels allow.

    Args:
        inputs: float [N, C, H, W]; only its shape matters.
        rows: Of the grid.
        columns: Of the grid; as many as rows by default.

    Returns:
        int64 [1, 1, H, W], from 0 up.
    """
    height, width = inputs.shape[2:]
    columns = rows if columns is None else columns
    if not (1 <= rows <= height and 1 <= columns <= width):
        raise InspectionError(f"A picture of {width}x{height} pixels has no grid of {columns}x{rows} segments.")
    down = torch.arange(height) * rows // height
    across = torch.arange(width) * columns // width
    return (down[:, None] * columns + across)[None, None].to(inputs.device)


def slic_segments(inputs: Tensor, count: int = 50, *, compactness: float = 10.0) -> Tensor:
    """Superpixels that follow the edges of each picture (SLIC; Achanta et al., 2012), by scikit-image.

    Args:
        inputs: float [N, C, H, W], preprocessed; each is scaled to its own range first.
        count: About how many segments.
        compactness: Higher ones make squares, lower ones follow colours.

    Returns:
        int64 [N, 1, H, W], each from 0 up.

    Raises:
        InspectionError: scikit-image is not installed.
    """
    try:
        from skimage.segmentation import slic
    except ModuleNotFoundError as error:
        raise InspectionError(
            "Segments by SLIC need scikit-image, which is not installed.",
            hint="`pip install scikit-image` brings it; a grid needs nothing.",
        ) from error
    found = []
    for picture in inputs.detach().float().cpu():
        low, high = picture.amin(), picture.amax()
        scaled = ((picture - low) / (high - low).clamp(min=1e-12)).permute(1, 2, 0)
        is_colour = scaled.shape[2] == 3
        labels = slic(
            (scaled if is_colour else scaled.mean(2)).numpy(),
            n_segments=count,
            compactness=compactness if is_colour else compactness / 100,
            start_label=0,
            channel_axis=2 if is_colour else None,
        )
        found.append(torch.as_tensor(labels, dtype=torch.int64)[None])
    return torch.stack(found).to(inputs.device)
