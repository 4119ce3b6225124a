from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.errors import InspectionError
from cutaway.inspect.histograms import bias_histograms, gradient_histograms, tensor_histogram, weight_histograms


def test_counts_and_moments_agree_with_numpy() -> None:
    values = torch.tensor([[0.0, 1.0, 1.5], [2.0, 4.0, 0.0]])
    found = tensor_histogram("w", values, bins=4)
    assert found.counts.tolist() == [2, 2, 1, 1]
    assert found.edges.tolist() == [0, 1, 2, 3, 4]
    assert found.mean == pytest.approx(np.mean(values.numpy()))
    assert found.std == pytest.approx(np.std(values.numpy()))
    assert (found.zeros, found.shape, found.is_finite) == (pytest.approx(2 / 6), (2, 3), True)


def test_what_is_not_finite_is_counted_and_kept_out() -> None:
    found = tensor_histogram("w", torch.tensor([1.0, math.nan, math.inf, -math.inf, 3.0]), bins=2)
    assert (found.num_nan, found.num_infinite, found.is_finite) == (1, 2, False)
    assert found.counts.tolist() == [1, 1]
    assert (found.mean, found.std) == (2, 1)
    assert math.isnan(tensor_histogram("w", torch.tensor([math.nan])).mean)
    assert tensor_histogram("w", torch.empty(0)).counts.sum() == 0


def test_weights_without_biases_and_shared_ones_once() -> None:
    shared = nn.Linear(3, 3)
    network = nn.Sequential(shared, nn.BatchNorm1d(3), shared)
    assert [found.name for found in weight_histograms(network)] == ["0.weight"]
    assert weight_histograms(network)[0].counts.sum() == 9


def test_gradients_are_read_where_there_are_some() -> None:
    network = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
    with pytest.raises(InspectionError, match="no gradients"):
        gradient_histograms(network)
    network[0](torch.tensor([[2.0, 4.0]])).sum().backward()
    (found,) = gradient_histograms(network, bins=2)
    assert (found.name, found.mean, found.counts.tolist()) == ("0.weight", 3, [1, 1])


def test_values_too_close_together_for_the_bins() -> None:
    found = tensor_histogram("w", torch.tensor([1.0, 1 + 2**-52], dtype=torch.float64))
    assert found.num_finite == 2
    assert len(found.edges) == 49
    assert all(left < right for left, right in zip(found.edges, found.edges[1:], strict=False))
    assert (found.smallest, found.largest) == (1, 1 + 2**-52)


@pytest.mark.filterwarnings("error")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_values_near_the_end_of_float64() -> None:
    found = tensor_histogram("w", torch.tensor([-1.7e308, 1.7e308, 1.7e308, 1.7e308], dtype=torch.float64), bins=2)
    assert found.counts.tolist() == [1, 3]
    assert found.edges.tolist() == [-1.7e308, 0, 1.7e308]
    assert found.mean == pytest.approx(0.85e308)
    assert found.std == pytest.approx(1.7e308 * (math.sqrt(3) / 2))
    assert found.quantiles[2] == pytest.approx(1.7e308)
    assert found.num_outliers == 0


@pytest.mark.parametrize("histograms", [weight_histograms, bias_histograms, gradient_histograms])
def test_layers_without_shapes_are_refused_in_words(histograms: object) -> None:
    assert callable(histograms)
    with pytest.raises(InspectionError, match="no shape yet"):
        histograms(nn.Sequential(nn.LazyLinear(2)))
