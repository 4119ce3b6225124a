"""How evenly a split holds its classes, and the weights that make up for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def unevenness(counts: Sequence[int]) -> float:
    """Samples of the largest class over those of the smallest that has any; 1 where all are equal.

    Args:
        counts: Samples of each class.
    """
    present = [count for count in counts if count > 0]
    return max(present) / min(present) if present else 1.0


def balanced_weights(counts: Sequence[int]) -> npt.NDArray[np.float64]:
    """Weights with which every class that has samples counts alike, and a sample counts 1 on average.

    The weight of class k is N / (K * n_k), over the K classes with samples (King & Zeng 2001; scikit-learn's
    "balanced"). A class without samples has the weight 0.

    Args:
        counts: Samples of each class, n_k.

    Returns:
        float64, one weight per class.
    """
    samples = np.asarray(counts, dtype=np.float64)
    present = np.count_nonzero(samples)
    weights: npt.NDArray[np.float64] = np.divide(
        samples.sum() / max(present, 1), samples, out=np.zeros_like(samples), where=samples > 0
    )
    return weights
