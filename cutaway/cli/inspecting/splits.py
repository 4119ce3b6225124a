"""Which of a data set's pictures an inspection goes over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cutaway.errors import DataError

if TYPE_CHECKING:
    from cutaway.datasets import Dataset, Split

SplitName = Literal["train", "valid", "test", "all"]


def split_named(dataset: Dataset, asked: SplitName | None) -> Split:
    """One split, or all of them as one; by default test, or valid where there is none, which is told.

    Raises:
        DataError: It has no pictures.
    """
    from cutaway.cli.run_data import tell_validation
    from cutaway.datasets import SPLITS, joined

    if asked == "all":
        return joined([dataset.split(name) for name in SPLITS], "all")
    split = dataset.split(asked or ("test" if len(dataset.test) else "valid"))
    if len(split) == 0:
        raise DataError(
            f"The {split.name} split of {dataset.name} is empty.", hint="Name another one: --split train, valid or all."
        )
    if asked is None and split is dataset.valid:
        tell_validation()
    return split
