from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.inspect.growing_histograms import GrowingHistogram
from cutaway.inspect.histograms import QUANTILES


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(width=32), min_size=0, max_size=20), min_size=1, max_size=5))
def test_batches_count_as_the_whole(batches: list[list[float]]) -> None:
    growing = GrowingHistogram()
    for batch in batches:
        growing.add(torch.tensor(batch, dtype=torch.float64))
    found = growing.histogram("x", ())
    whole = np.array([value for batch in batches for value in batch])
    finite = whole[np.isfinite(whole)]
    assert (found.num_nan, found.num_infinite) == (np.isnan(whole).sum(), np.isinf(whole).sum())
    assert found.counts.sum() == len(finite)
    assert found.zeros == pytest.approx((whole == 0).mean() if len(whole) else 0)
    if not len(finite):
        assert math.isnan(found.mean)
        return
    scale = np.abs(finite).max()
    assert (found.smallest, found.largest) == (finite.min(), finite.max())
    assert found.mean == pytest.approx(finite.mean(), abs=1e-9 * scale)
    assert found.std == pytest.approx(finite.std(), rel=1e-6, abs=1e-7 * scale)
    # Every bin holds what lies in it.
    slack = 1e-9 * scale
    for count, low, high in zip(found.counts, found.edges, found.edges[1:], strict=False):
        assert count <= ((finite >= low - slack) & (finite <= high + slack)).sum()


def test_quantiles_are_within_a_bin_s_width() -> None:
    values = torch.randn(50_000, generator=torch.Generator().manual_seed(0))
    growing = GrowingHistogram()
    # The first batch is the narrowest, so that bins have to grow several times.
    for part in (values[:100] / 1000, values[:100], values[100:], values[:1000] * 3):
        growing.add(part)
    whole = torch.cat([values[:100] / 1000, values, values[:1000] * 3])
    found = growing.histogram("x", (3,), bins=48)
    bound = float(whole.abs().max()) / 2**10
    assert np.allclose(found.quantiles, np.quantile(whole.numpy(), QUANTILES), atol=bound, rtol=0)
    assert 24 <= len(found.counts) <= 48
    assert np.allclose(np.diff(found.edges), found.edges[1] - found.edges[0])


def test_outliers_and_nothing() -> None:
    growing = GrowingHistogram()
    assert growing.histogram("x", ()).counts.sum() == 0
    growing.add(torch.cat([torch.linspace(-1, 1, 10_000), torch.tensor([100.0])]))
    assert growing.histogram("x", ()).num_outliers == 1
    constant = GrowingHistogram()
    constant.add(torch.full((7,), 3.0))
    found = constant.histogram("x", ())
    assert (found.smallest, found.largest, found.std, found.counts.sum()) == (3, 3, 0, 7)


def test_zeros_at_the_beginning_set_no_scale() -> None:
    growing = GrowingHistogram()
    growing.add(torch.zeros(500))
    assert growing.histogram("x", (1,)).counts.sum() == 500
    growing.add(torch.cat([torch.full((900,), 1e-5), torch.full((100,), 1e-4)]))
    found = growing.histogram("x", (1,))
    whole = np.concatenate([np.zeros(500), np.full(900, 1e-5), np.full(100, 1e-4)])
    assert found.quantiles == pytest.approx(np.quantile(whole, QUANTILES), abs=1e-4 / 1024)
    assert found.counts.sum() == 1500
