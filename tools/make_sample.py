"""Makes the sample of Fashion-MNIST inside the package from Debian's dataset-fashion-mnist; same input, same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from cutaway.datasets import builtin
from cutaway.datasets.idx import read_idx

SAMPLE = Path(__file__).parent.parent / "cutaway" / "datasets" / "sample"
COPYRIGHT = Path("/usr/share/doc/dataset-fashion-mnist/copyright")
PER_CLASS = {"train": 600, "test": 100}


def main() -> None:
    """Writes `fashion-mnist-sample.npz` and its licence."""
    arrays = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = read_idx(builtin.DEBIAN_FASHION_MNIST / f"{prefix}-images-idx3-ubyte.gz", num_dimensions=3)
        labels = read_idx(builtin.DEBIAN_FASHION_MNIST / f"{prefix}-labels-idx1-ubyte.gz", num_dimensions=1)
        chosen = _balanced(labels, PER_CLASS[split])
        arrays[f"{split}_images"] = images[chosen]
        arrays[f"{split}_labels"] = labels[chosen]
    SAMPLE.mkdir(exist_ok=True)
    np.savez_compressed(SAMPLE / "fashion-mnist-sample.npz", **arrays)
    (SAMPLE / "LICENSE.txt").write_bytes(COPYRIGHT.read_bytes())


def _balanced(labels: npt.NDArray[np.uint8], per_class: int) -> npt.NDArray[np.int64]:
    """Ascending indices: of each class, `per_class` samples spread evenly over the whole set."""
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen.append(members[np.arange(per_class) * len(members) // per_class])
    return np.sort(np.concatenate(chosen))


if __name__ == "__main__":
    main()
