"""How far a share of so many samples can be trusted."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

LEVEL = 0.95


def wilson(
    successes: npt.ArrayLike, totals: npt.ArrayLike, *, level: float = LEVEL
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Wilson's score interval of shares (Wilson 1927), which stays within 0 and 1 and serves for few samples too.

    With p the share, n the samples and z the normal quantile: the centre is (p + z²/2n) / (1 + z²/n), and it reaches
    z √(p(1-p)/n + z²/4n²) / (1 + z²/n) to both sides.

    Args:
        successes: How many samples were so; whole numbers of any shape.
        totals: Of how many; the same shape. Of none, the share can be anything.
        level: How often such an interval holds the true share.

    Returns:
        Lower and upper ends, float64 of that shape.
    """
    total = np.asarray(totals, dtype=np.float64)
    count = np.asarray(successes, dtype=np.float64)
    z = NormalDist().inv_cdf((1 + level) / 2)
    n = np.maximum(total, 1)
    share = count / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # At no success and at all of them an end is 0 or 1 but for rounding.
    low = np.where(count == 0, 0.0, centre - reach)
    high = np.where(count == total, 1.0, centre + reach)
    return low, np.where(total == 0, 1.0, high)


def never_seen(total: int, *, level: float = LEVEL) -> float:
    """The largest share of something that was seen on none of so many samples: about 3 / n at 95 %, the rule of three.

    Exactly 1 - (1 - level)^(1 / n), Clopper and Pearson's one-sided bound (Hanley and Lippman-Hand, JAMA 1983).
    """
    return 1.0 if total < 1 else float(1 - (1 - level) ** (1 / total))
