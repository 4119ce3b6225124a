from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._pytree import tree_map_only

from cutaway.hooks import ChannelMoments, StreamingStatistics
from cutaway.hooks.statistics import QUANTILE_ERROR
from cutaway.inspect.channels import _Observer

VALUES = st.lists(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), min_size=1, max_size=60)


def stream_of(*batches: object) -> StreamingStatistics:
    stream = StreamingStatistics()
    for batch in batches:
        stream.update(torch.tensor(batch, dtype=torch.float32))
    return stream


def test_worked_out_by_hand() -> None:
    found = stream_of([[1.0, -2.0], [0.0, math.nan]], [5.0, math.inf, -math.inf]).result()
    assert (found.count, found.num_nan, found.num_infinite) == (4, 1, 2)
    assert (found.minimum, found.maximum) == (-2.0, 5.0)
    assert found.mean == pytest.approx(1)
    assert found.std == pytest.approx(math.sqrt((9 + 1 + 0 + 16) / 4))
    assert found.zeros == pytest.approx(1 / 7)
    assert not found.is_finite
    counts, edges = found.histogram(bins=7)
    assert counts.tolist() == [1, 0, 1, 1, 0, 0, 1]
    assert edges.tolist() == [-2, -1, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
def test_one_value_that_is_not_finite_is_left_out(odd: float) -> None:
    found = stream_of([1.0, odd, 3.0]).result()
    assert (found.count, found.num_nan + found.num_infinite) == (2, 1)
    assert (found.mean, found.minimum, found.maximum, found.std) == (2, 1, 3, 1)


def test_values_beyond_single_precision_are_numbers_and_stay_as_they_are() -> None:
    values = torch.tensor([-1e300, -0.0, 1e300, 1e300], dtype=torch.float64)
    stream = StreamingStatistics()
    stream.update(values)
    found = stream.result()
    assert (found.count, found.minimum, found.maximum) == (4, -1e300, 1e300)
    assert found.quantile(0.5) == 0
    assert math.isfinite(found.quantile(0.7))
    assert found.histogram(3)[0].sum() == 4
    assert values.tolist() == [-1e300, 0, 1e300, 1e300]


def test_nothing_seen_and_nothing_finite() -> None:
    for stream in (StreamingStatistics(), stream_of([math.nan])):
        found = stream.result()
        assert found.count == 0
        assert all(map(math.isnan, (found.mean, found.std, found.minimum, found.quantile(0.5))))
        assert found.histogram(4)[0].tolist() == [0, 0, 0, 0]


@settings(max_examples=150, deadline=None)
@given(values=VALUES, share=st.floats(0, 1))
def test_quantiles_keep_their_bound(values: list[float], share: float) -> None:
    found = stream_of(values).result().quantile(share)
    exact = sorted(values)[math.floor(share * (len(values) - 1))]
    assert abs(found - exact) <= QUANTILE_ERROR * abs(exact)


@settings(max_examples=100, deadline=None)
@given(first=VALUES, second=VALUES)
def test_merging_two_halves_equals_the_whole(first: list[float], second: list[float]) -> None:
    whole, merged = stream_of(first + second), stream_of(first)
    merged.merge(stream_of(second))
    a, b = whole.result(), merged.result()
    assert (a.count, a.minimum, a.maximum, a.zeros) == (b.count, b.minimum, b.maximum, b.zeros)
    scale = max(map(abs, first + second), default=0.0)
    assert a.mean == pytest.approx(b.mean, rel=1e-6, abs=1e-6 * scale)
    assert a.std == pytest.approx(b.std, rel=1e-5, abs=1e-5 * scale)
    assert [a.quantile(share) for share in (0.1, 0.5, 0.9)] == [b.quantile(share) for share in (0.1, 0.5, 0.9)]
    assert a.histogram()[0].tolist() == b.histogram()[0].tolist()


def test_moments_of_many_batches_agree_with_numpy_where_the_mean_is_large() -> None:
    values = np.random.default_rng(0).normal(1000, 0.01, (3, 10000)).astype(np.float32)
    moments = ChannelMoments()
    for at in range(0, 10000, 1000):
        moments.update(torch.from_numpy(values[:, at : at + 1000]))
    assert np.allclose(moments.mean, values.mean(1, dtype=np.float64), rtol=1e-10)
    assert np.allclose(moments.std, values.std(1, dtype=np.float64), rtol=1e-5)


def test_the_deviation_where_float32_has_no_such_mean() -> None:
    # A mean of 2^24 + 1/2, which float32 rounds to 2^24; squares of 3 * 1/4 + 9/4 over four values.
    stream = StreamingStatistics()
    stream.update(torch.tensor([2.0**24] * 3 + [2.0**24 + 2]))
    assert stream.result().mean == 2.0**24 + 0.5
    assert stream.result().std == math.sqrt(0.75)


def test_the_histogram_of_many_values_is_that_of_numpy_but_for_the_edges() -> None:
    values = np.random.default_rng(1).normal(size=100_000).astype(np.float32)
    found = stream_of(values).result()
    counts, edges = found.histogram(20)
    exact, exact_edges = np.histogram(values, bins=20)
    assert np.allclose(edges, exact_edges)
    assert counts.sum() == 100_000
    assert np.abs(counts - exact).sum() < 0.03 * 100_000


def test_memory_does_not_grow_with_what_is_seen() -> None:
    stream = stream_of([1.0])
    before = stream._sketch.numel()
    for _ in range(10):
        stream.update(torch.randn(1000))
    assert stream._sketch.numel() == before
    assert stream._moments.num_channels == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    stream = StreamingStatistics()
    stream.update(torch.tensor([-1.5, 0.0, -0.0, 2.5], dtype=dtype))
    found = stream.result()
    assert (found.mean, found.zeros, found.quantile(0.5)) == (0.25, 0.5, 0.0)


class OnMps(torch.Tensor):
    """A tensor on a device without float64: making one there is an error, as torch's is."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnMps:
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device="mps")
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        leaves = func is torch.ops.aten._to_copy.default and str(kwargs.get("device")) == "cpu"
        inside = tree_map_only(OnMps, lambda tensor: tensor.inner, args)
        if not leaves:
            kwargs.pop("device", None)
        output = func(*inside, **kwargs)
        if leaves:
            return output
        if output.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return OnMps(output)


def test_a_device_without_float64() -> None:
    values = torch.tensor([[1.0, -2.0, 0.5], [4.0, math.nan, math.inf]])
    with pytest.raises(TypeError, match="float64"):
        OnMps(values).double()
    there, here = StreamingStatistics(), StreamingStatistics()
    there.update(OnMps(values))
    here.update(values)
    for name in ("count", "mean", "std", "minimum", "maximum", "zeros"):
        assert getattr(there.result(), name) == getattr(here.result(), name)


def test_channels_on_a_device_without_float64() -> None:
    maps = torch.tensor([[1.0, -20.0, 0.0], [9.0, 8.0, -7.0]])[:, None].sigmoid()
    found = []
    for values in (maps, OnMps(maps)):
        observer = _Observer("act", "sigmoid", None, 2)
        assert observer.observe(values.transpose(1, 2), torch.zeros(2, 1), 0)
        found.append(observer.result())
    here, there = found
    assert there.flat.tolist() == here.flat.tolist()
    assert there.silent.tolist() == here.silent.tolist()
    assert there.top_values.tolist() == here.top_values.tolist()


def test_of_a_large_tensor_a_part_is_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(StreamingStatistics, "_add", lambda stream, part: sizes.append(part.numel()))
    StreamingStatistics().update(torch.zeros(3, 700_000))
    assert sum(sizes) == 2_100_000
    assert max(sizes) <= 2**20


def test_a_tensor_that_is_worked_on_in_parts_gives_what_it_holds() -> None:
    numbers = np.random.default_rng(0).normal(100, 3, 2_100_000).astype(np.float32)
    whole = torch.from_numpy(numbers.copy())
    whole[[5, 1_500_000, 2_099_999]] = torch.tensor([math.nan, math.inf, 0.0])
    stream = StreamingStatistics()
    stream.update(whole.view(3, -1))
    found = stream.result()
    finite = whole[whole.isfinite()].double().numpy()
    assert (found.count, found.num_nan, found.num_infinite) == (len(finite), 1, 1)
    assert found.mean == pytest.approx(finite.mean(), rel=1e-12)
    assert found.std == pytest.approx(finite.std(), rel=1e-9)
    assert (found.minimum, found.maximum) == (finite.min(), finite.max())
    assert found.quantile(0.25) == pytest.approx(np.quantile(finite, 0.25, method="lower"), rel=QUANTILE_ERROR)
    assert found.zeros == pytest.approx(1 / 2_100_000)


def test_batches_of_any_sizes_join_in_double_precision() -> None:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(3001, generator=generator, dtype=torch.float64) * 100
    stream = StreamingStatistics()
    for size in values.split([1, 2, 7, 2000, 3, 988]):
        stream.update(size)
    found = stream.result()
    assert found.mean == pytest.approx(float(values.mean()), rel=1e-12)
    assert found.std == pytest.approx(float(values.std(correction=0)), rel=1e-12)
    stream.update(torch.zeros(2))
    assert stream.result().zeros == 2 / 3003
