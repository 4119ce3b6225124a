from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from cutaway.datasets.balance import balanced_weights, unevenness


def test_weights_by_hand():
    # 8 samples, 2 classes: 8 / (2 x 6) and 8 / (2 x 2).
    assert balanced_weights([6, 2]).tolist() == pytest.approx([2 / 3, 2.0])
    assert balanced_weights([5, 5, 5]).tolist() == [1, 1, 1]


def test_scikit_learn_weighs_alike_and_a_sample_counts_one_on_average():
    labels = np.repeat([0, 1, 2, 3], [3, 40, 7, 110])
    counts = np.bincount(labels)
    weights = balanced_weights(counts.tolist())
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(4), y=labels))
    assert weights @ counts == pytest.approx(len(labels))


def test_a_class_without_samples_weighs_nothing():
    assert balanced_weights([4, 0, 4]).tolist() == [1, 0, 1]
    assert unevenness([4, 0, 6]) == 1.5
