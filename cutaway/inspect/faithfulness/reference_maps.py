"""Heat-maps that know nothing of the network: what a map has to beat before it is worth a look."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.inspect.attribution.baselines import blurred


def random_pixels(inputs: Tensor, seed: int = 0) -> Tensor:
    """Uniform noise, a value a pixel: float [N, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((len(inputs), *inputs.shape[2:]), generator=generator).to(inputs)


def random_patches(inputs: Tensor, seed: int = 0, cells: int = 7) -> Tensor:
    """Uniform noise on a coarse grid, enlarged: what a class activation map without content looks like.

    Patches leave pictures recognisable for longer than single pixels do, so they are the fairer opponent of coarse
    maps.
    """
    height, width = inputs.shape[2:]
    generator = torch.Generator().manual_seed(seed + 1)
    coarse = torch.rand((len(inputs), 1, min(cells, height), min(cells, width)), generator=generator).to(inputs)
    return F.interpolate(coarse, (height, width), mode="bilinear")[:, 0]


def edges(inputs: Tensor, seed: int = 0) -> Tensor:
    """The strength of the picture's edges by Sobel's filter, a little blurred: float [N, H, W]."""
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).to(inputs)
    grey = F.pad(inputs.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    slopes = F.conv2d(grey, torch.stack([sobel, sobel.t()])[:, None])
    return blurred(slopes.square().sum(1, keepdim=True).sqrt(), 1.0)[:, 0]


def centre(inputs: Tensor, seed: int = 0) -> Tensor:
    """A Gaussian in the middle, with a quarter of each side for its standard deviation: float [N, H, W]."""
    height, width = inputs.shape[2:]
    down = (torch.arange(height) + 0.5) / height - 0.5
    across = (torch.arange(width) + 0.5) / width - 0.5
    bell = torch.exp(-(down[:, None] ** 2 + across**2) / (2 * 0.25**2))
    return bell.to(inputs).expand(len(inputs), -1, -1)


REFERENCE_MAPS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "random pixels": random_pixels,
    "random patches": random_patches,
    "edges": edges,
    "centre": centre,
}
RANDOM = ("random pixels", "random patches")
