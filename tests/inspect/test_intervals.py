from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from cutaway.inspect.intervals import never_seen, wilson


def test_the_interval_by_hand() -> None:
    # p = 0.8, n = 10, z = 1.95996: centre (0.8 + 0.192073) / 1.384146, reach z √(0.016 + 0.009604) / 1.384146.
    low, high = wilson(8, 10)
    assert (float(low), float(high)) == pytest.approx((0.490162, 0.943318), abs=1e-6)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95]))
def test_the_interval_is_scipy_s(pair: tuple[int, int], level: float) -> None:
    low, high = wilson(*pair, level=level)
    theirs = binomtest(*pair).proportion_ci(level, method="wilson")
    assert (float(low), float(high)) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert 0 <= low <= pair[0] / pair[1] <= high <= 1


def test_of_no_samples_the_share_can_be_anything() -> None:
    low, high = wilson(np.array([0, 0, 4]), np.array([0, 4, 4]))
    assert low.tolist()[:2] == [0, 0]
    assert high.tolist()[0] == high.tolist()[2] == 1


def test_what_was_never_seen_may_be_three_in_so_many() -> None:
    # P(none of n) = 0.05 at the bound, whatever n.
    for total in (1, 7, 300, 10_000):
        assert (1 - never_seen(total)) ** total == pytest.approx(0.05)
    assert never_seen(1000) == pytest.approx(3 / 1000, rel=0.01)
    assert never_seen(0) == 1
