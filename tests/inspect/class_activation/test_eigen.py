from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.errors import InspectionError
from cutaway.inspect import class_activation_maps


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4))


def test_the_map_is_the_projection_on_the_first_principal_direction() -> None:
    net, pictures = network().double(), torch.randn(2, 3, 8, 9, dtype=torch.float64)
    found = class_activation_maps(net, pictures, "eigen-cam", "1")
    with torch.no_grad():
        maps = net[1](net[0](pictures)).numpy()
    for sample in range(2):
        matrix = maps[sample].reshape(6, -1).T
        values, vectors = np.linalg.eigh(matrix.T @ matrix)
        projected = matrix @ vectors[:, values.argmax()]
        np.testing.assert_allclose(found.maps[sample].flatten().numpy(), np.abs(projected), atol=1e-9)


def test_a_map_of_rank_one_is_found_again() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([3.0, -4.0]).reshape(2, 1, 1, 1))
    picture = torch.tensor([[[[1.0, 2.0], [0.0, 5.0]]]])
    assert torch.allclose(class_activation_maps(net, picture, "eigen-cam", "0").maps, 5 * picture[0])
    # The singular vectors' own sign, whichever it is, plays no part.
    nn.init.constant_(net[0].weight, -1.0)
    assert torch.allclose(class_activation_maps(net, picture, "eigen-cam", "0").maps, 2**0.5 * picture[0])
    assert torch.allclose(class_activation_maps(net, -picture, "eigen-cam", "0").maps, 2**0.5 * picture[0])


def test_the_class_plays_no_part_and_holding_one_against_another_is_refused() -> None:
    pictures = torch.randn(1, 3, 8, 8)
    first, second = class_activation_maps(network(), pictures, "eigen-cam", "1", [[0, 3]]).maps[0]
    assert torch.equal(first, second)
    with pytest.raises(InspectionError, match="same map for every class"):
        class_activation_maps(network(), pictures, "eigen-cam", against=1)


def test_weights_that_are_not_finite_are_told() -> None:
    net = network()
    nn.init.constant_(net[0].bias, torch.nan)
    with pytest.raises(InspectionError, match="not finite"):
        class_activation_maps(net, torch.randn(1, 3, 8, 8), "eigen-cam", "1")
