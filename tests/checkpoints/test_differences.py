"""How far two bundles lie apart, against numpy and numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from cutaway.checkpoints import write_bundle
from cutaway.checkpoints.differences import compare_bundles
from cutaway.checkpoints.runs import Stored
from cutaway.errors import BundleError


@pytest.fixture
def stored(tmp_path, make_manifest):
    def make(name, tensors, **changes):
        path = tmp_path / name
        return Stored(path, write_bundle(path, make_manifest(**changes), {"model": tensors}))

    return make


def test_distances_by_hand(stored):
    first = stored("a", {"w": torch.tensor([3.0, 4.0]), "same": torch.ones(3), "turned": torch.tensor([1.0, 0.0])})
    second = stored("b", {"w": torch.tensor([3.0, 3.0]), "same": torch.ones(3), "turned": torch.tensor([0.0, 2.0])})
    found = compare_bundles(first, second)
    assert [distance.name for distance in found.distances] == ["turned", "w", "same"]
    turned, w, same = found.distances
    assert (turned.relative, turned.largest, turned.cosine) == (math.sqrt(5), 2.0, 0.0)
    assert (w.relative, w.largest) == (0.2, 1.0)
    assert w.cosine == pytest.approx(21 / (5 * math.sqrt(18)), rel=1e-12)
    assert (same.relative, same.largest, same.cosine) == (0.0, 0.0, 1.0)
    assert found.num_equal == 1


def test_distances_agree_with_numpy_and_do_not_lose_small_changes_in_float32(stored):
    torch.manual_seed(0)
    weight = torch.randn(64, 3, 7, 7)
    moved = weight + 1e-6 * torch.randn_like(weight)
    (found,) = compare_bundles(stored("a", {"w": weight}), stored("b", {"w": moved})).distances
    a, b = weight.double().numpy().ravel(), moved.double().numpy().ravel()
    assert found.relative == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-9)
    assert found.largest == np.abs(b - a).max()
    assert found.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-12)


def test_zeros_integers_and_what_is_no_number(stored):
    inf = float("inf")
    first = {"zero": torch.zeros(2), "count": torch.tensor(3), "inf": torch.tensor([inf]), "nan": torch.ones(1)}
    second = {"zero": torch.ones(2), "count": torch.tensor(6), "inf": torch.tensor([inf]), "nan": torch.tensor([inf])}
    found = {distance.name: distance for distance in compare_bundles(stored("a", first), stored("b", second)).distances}
    assert found["zero"].relative == inf
    assert math.isnan(found["zero"].cosine)
    assert (found["count"].relative, found["count"].largest) == (1.0, 3.0)
    assert found["inf"].relative == 0.0
    assert found["nan"].largest == inf


def test_only_settings_that_differ_are_told_nested_ones_by_their_path(stored, make_manifest):
    network = make_manifest().network
    first = stored("a", {"w": torch.ones(1)}, configuration={"lr": 0.1, "seed": 0}, metrics={"loss": 0.5, "old": 1.0})
    second = stored(
        "b",
        {"w": torch.ones(1)},
        configuration={"lr": 0.2, "seed": 0, "new": None, "deep": {"x": [1]}},
        metrics={"loss": 0.4},
        network=network.model_copy(update={"arguments": {"hidden": 4}}),
        classes=("cat", "cow"),
    )
    found = compare_bundles(first, second)
    assert found.settings == {
        "lr": (0.1, 0.2),
        "network.arguments.hidden": (3, 4),
        "classes": (["cat", "dog"], ["cat", "cow"]),
        "deep.x": (None, [1]),
    }
    assert found.metrics == {"loss": (0.5, 0.4), "old": (1.0, None)}


def test_tensors_without_a_partner_are_told(stored):
    first = stored("a", {"w": torch.ones(1), "head": torch.ones(2)})
    second = stored("b", {"w": torch.ones(1), "head": torch.ones(3), "more": torch.ones(1)})
    found = compare_bundles(first, second)
    assert [distance.name for distance in found.distances] == ["w"]
    assert (found.only_first, set(found.only_second)) == (("head",), {"head", "more"})


def test_a_damaged_bundle_is_not_compared(stored):
    first, second = stored("a", {"w": torch.ones(1)}), stored("b", {"w": torch.ones(1)})
    file = second.path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(BundleError, match="its hash differs"):
        compare_bundles(first, second)
