"""Networks of which it is known what they look at."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn


class Counting(nn.Module):
    """Its probability of class 0 is the share of pixels that are 1, in pictures of zeros and ones."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        share = x.mean((1, 2, 3)).clamp(1e-9, 1 - 1e-9)
        return torch.stack([share.log(), (1 - share).log()], 1)


class Corner(nn.Module):
    """Looks at the mean of the upper left quarter alone: the higher, the more it is class 0."""

    def __init__(self, slope: float = 4.0) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2] // 2, x.shape[3] // 2
        score = self.slope * x[:, :, :height, :width].mean((1, 2, 3))
        return torch.stack([score, -score], 1)


@pytest.fixture
def counting():
    return Counting()


@pytest.fixture
def corner():
    return Corner()


@pytest.fixture
def where_it_looks():
    """Makes the map of the upper left quarter for pictures."""

    def explain(pictures: Tensor, classes: Tensor) -> Tensor:
        maps = torch.zeros(len(pictures), *pictures.shape[2:])
        maps[:, : maps.shape[1] // 2, : maps.shape[2] // 2] = 1
        return maps

    return explain


@pytest.fixture
def bright():
    """Twelve pictures of which class 0 is certain, with a little noise."""
    return 1 + 0.2 * torch.randn(12, 3, 12, 12, generator=torch.Generator().manual_seed(2))
