"""Weights that are not numbers are refused by name and count; nothing else is."""

import pytest
import torch

from cutaway.checkpoints import restore, write_bundle
from cutaway.checkpoints.finite import check_finite
from cutaway.errors import BundleError
from cutaway.networks import build


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("values", [[float("nan"), 1.0], [float("inf"), 1.0], [float("inf"), float("-inf")]])
def test_nan_and_infinities_are_named_and_counted(dtype, values):
    tensor = torch.zeros(10, dtype=dtype)
    tensor[3:5] = torch.tensor(values, dtype=dtype)
    count = sum(value != 1.0 for value in values)
    with pytest.raises(BundleError, match=f"'fc.weight' of it has {count} of 10 values"):
        check_finite({"fine": torch.ones(3), "fc.weight": tensor}, "it")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_large_values_whose_sum_overflows_are_numbers(dtype):
    check_finite({"w": torch.full((70_000,), torch.finfo(dtype).max, dtype=dtype)}, "it")


def test_integers_and_empty_tensors_are_skipped():
    check_finite({"count": torch.tensor(7), "flags": torch.ones(2, dtype=torch.bool), "none": torch.empty(0)}, "it")


def test_a_bundle_with_nan_is_read_only_where_that_is_allowed(tmp_path, make_manifest):
    manifest = make_manifest()
    state = build(manifest.network).state_dict()
    state["out.bias"][1] = float("nan")
    write_bundle(tmp_path / "step-00000001", manifest, {"model": state})
    with pytest.raises(BundleError, match=r"'out\.bias' of .*step-00000001 has 1 of 2 values") as error:
        restore(tmp_path / "step-00000001")
    assert "--allow-nan" in error.value.hint
    restored = restore(tmp_path / "step-00000001", allow_nan=True)
    assert torch.isnan(restored.network.out.bias).tolist() == [False, True]
