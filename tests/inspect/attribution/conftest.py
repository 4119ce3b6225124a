"""Small networks whose attributions are worked out by hand, and twins of one that write the same in other ways."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SPELLINGS = (
    *("modules", "in-place", "shared", "shared in-place", "functional", "functional in-place"),
    *("method", "clamp", "clamp in-place", "maximum", "maximum of zero", "max", "fmax", "named", "named maximum"),
)


@pytest.fixture
def linear():
    """Makes a linear network of pictures [2, 4, 4] with three classes."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(2 * 4 * 4, 3))


@pytest.fixture
def two_units():
    """Logit 0 is relu(a - b) - relu(a + b), logit 1 its negative, for a picture of two pixels a and b."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))
        network[3].weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    return network


@pytest.fixture
def small():
    """Makes the network by its spelling."""
    return lambda spelling="modules": Small(spelling).eval()


@pytest.fixture(params=SPELLINGS)
def spelling(request):
    """Each way to write the same network."""
    return request.param


@pytest.fixture
def pictures():
    """Four pictures for the small network."""
    return torch.randn(4, 3, 10, 10, generator=torch.Generator().manual_seed(11))


class Small(nn.Module):
    """Two convolutions with ReLUs, a pool, and a head of two linear layers, in one of many spellings."""

    def __init__(self, spelling: str = "modules") -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.first = nn.Conv2d(3, 6, 3, padding=1)
            self.second = nn.Conv2d(6, 8, 3, padding=1)
            self.hidden = nn.Linear(8 * 5 * 5, 16)
            self.last = nn.Linear(16, 5)
        self.spelling = spelling
        inplace = spelling in ("in-place", "shared in-place")
        self.relus = nn.ModuleList(nn.ReLU(inplace) for _ in range(1 if "shared" in spelling else 3))
        self.pool, self.drop = nn.MaxPool2d(2), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.first(x), 0))
        x = self.relu(self.second(x), 1).flatten(1)
        return self.last(self.drop(self.relu(self.hidden(x), 2)))

    def relu(self, x: Tensor, at: int) -> Tensor:
        match self.spelling:
            case "functional":
                return F.relu(x)
            case "functional in-place":
                return F.relu(x, True)
            case "method":
                return x.relu_()
            case "clamp":
                return x.clamp(min=0)
            case "clamp in-place":
                torch.clamp_(x, 0)
                return x
            case "maximum":
                return torch.maximum(x, torch.zeros(1))
            case "maximum of zero":
                return torch.maximum(torch.zeros_like(x), x)
            case "max":
                return torch.max(x, torch.zeros_like(x))
            case "fmax":
                return torch.fmax(x, torch.zeros_like(x))
            case "named":
                return F.relu(input=x, inplace=False)
            case "named maximum":
                return torch.maximum(input=torch.zeros_like(x), other=x)
            case _:
                return self.relus[at % len(self.relus)](x)
