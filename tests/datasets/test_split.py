"""Samples taken and joined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cutaway.datasets import Split, joined


def images(count, side=4, level=0):
    return np.full((count, side, side, 3), level, dtype=np.uint8)


def test_splits_of_files_are_joined_with_the_columns_that_all_have():
    first = Split(
        "train",
        np.array([0, 1]),
        paths=(Path("a"), Path("b")),
        keys=("a", "b"),
        columns={"x": ("1", "2"), "y": ("", "")},
    )
    second = Split("test", np.array([2]), paths=(Path("c"),), keys=("c",), columns={"x": ("3",)})
    found = joined([first, second.take([]), second], "all")
    assert (found.name, found.labels.tolist(), found.keys) == ("all", [0, 1, 2], ("a", "b", "c"))
    assert found.paths == (Path("a"), Path("b"), Path("c"))
    assert found.columns == {"x": ("1", "2", "3")}
    assert found.called(2) == "c"


@pytest.mark.parametrize("side", [4, 6])
def test_splits_in_memory_are_joined_also_where_their_pictures_differ_in_size(side):
    found = joined(
        [Split("train", np.array([0]), images(1)), Split("test", np.array([1, 1]), images(2, side, 9))], "all"
    )
    assert found.labels.tolist() == [0, 1, 1]
    assert [found.image(index).shape[0] for index in range(3)] == [4, side, side]
    assert [int(found.image(index).max()) for index in range(3)] == [0, 9, 9]
    assert (found.images is None) == (side == 6)
    assert found.called(1) == "all[1]"


def test_empty_splits_are_joined_to_an_empty_one():
    nothing = Split("train", np.array([], dtype=np.int64), images(0))
    assert len(joined([nothing, nothing], "all")) == 0
