"""Stratified splits that depend on the seed and on the names of the samples, and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cutaway.errors import DataError

Indices = npt.NDArray[np.int64]
SET_ASIDE = 0.1


@dataclass(frozen=True)
class Splitting:
    """How a data set is split.

    Attributes:
        seed: Decides which samples are set aside.
        valid_share: Share of the samples that `valid` gets where the data has no such split: of all that are not in
            another split already.
        test_share: Likewise of `test`; 0 for none.
        again: Pool what the data splits itself, and split all of it by the shares.
    """

    seed: int = 0
    valid_share: float = SET_ASIDE
    test_share: float = SET_ASIDE
    again: bool = False

    def shares(self, title: str, own: Collection[str]) -> dict[str, float]:
        """Split name -> share, of the splits to set aside.

        Args:
            title: The data set's name.
            own: Splits that the data has itself, and that stay.

        Raises:
            DataError: A share was asked for that has no effect.
        """
        asked = {"valid": self.valid_share, "test": self.test_share}
        for name, share in asked.items():
            if name in own and share != SET_ASIDE:
                raise DataError(
                    f"{title} has a {name} split of its own, so --{name}-share {share:g} would do nothing.",
                    hint="Leave it out, or pool all pictures and split them anew: --resplit.",
                )
        return {name: share for name, share in asked.items() if name not in own and share > 0}


def stratified(
    labels: npt.NDArray[np.int64], keys: Sequence[str], shares: dict[str, float], *, seed: int
) -> dict[str, Indices]:
    """Sets aside a share of the samples for each named split, class by class; the rest is `train`.

    Within a class the samples are ordered by a hash of the seed and their key, so the split is the same whatever the
    order of the samples, the version of numpy or the machine. The total of a split is the rounded share of all samples
    (at least one), shared out among the classes by largest remainder; every class keeps a training sample.

    Args:
        labels: int64 [N].
        keys: A unique name for each sample, for example its path within the data set.
        shares: Split name -> share of all samples, each between 0 and 1, together below 1.
        seed: Another seed gives another split.

    Returns:
        Split name -> ascending int64 indices, `train` among them.

    Raises:
        DataError: If there are too few samples to give each split one and each class one training sample.
    """
    present, counts = np.unique(labels, return_counts=True)
    spare = counts - 1
    if spare.sum() < len(shares):
        raise DataError(
            f"{len(labels)} images in {len(present)} classes are too few to set some aside for {' and '.join(shares)}.",
            hint="Add images, so that each class keeps one for training.",
        )
    left, num_left = counts.copy(), len(labels)
    sizes: dict[str, npt.NDArray[np.int64]] = {}
    for position, (name, share) in enumerate(shares.items()):
        # Each split still to come must find a sample.
        most = int(spare.sum()) - (len(shares) - position - 1)
        total = min(max(1, _rounded(share * len(labels))), most)
        sizes[name] = apportion(total, left / num_left, spare)
        spare = spare - sizes[name]
        left = left - sizes[name]
        num_left -= total
    chosen: dict[str, list[int]] = {name: [] for name in ("train", *shares)}
    for position, label in enumerate(present):
        members = np.flatnonzero(labels == label)
        shuffled = sorted(members.tolist(), key=lambda index: _draw(seed, keys[index]))
        start = 0
        for name, size in sizes.items():
            chosen[name] += shuffled[start : start + int(size[position])]
            start += int(size[position])
        chosen["train"] += shuffled[start:]
    return {name: np.sort(np.array(indices, dtype=np.int64)) for name, indices in chosen.items()}


def apportion(total: int, shares: npt.NDArray[np.float64], limits: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Shares `total` out by largest remainder, ties to the first, with no part above its limit.

    Args:
        total: What is to be shared out; at most the sum of `limits`.
        shares: float64 [K], adding up to 1.
        limits: int64 [K].

    Returns:
        int64 [K], adding up to `total`.
    """
    quotas = shares * total
    parts = np.minimum(np.floor(quotas + 1e-9).astype(np.int64), limits)
    while (missing := total - int(parts.sum())) > 0:
        remainders = np.where(parts < limits, quotas - parts, -np.inf)
        # Rounding keeps equal remainders equal, whatever order they were computed in.
        first = np.argsort(-np.round(remainders, 9), kind="stable")[:missing]
        parts[first[parts[first] < limits[first]]] += 1
    return parts


def _rounded(value: float) -> int:
    return int(np.floor(value + 0.5 + 1e-9))


def _draw(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "surrogateescape")).digest()
