"""Names, shapes and types compared by hand-made examples, with PyTorch and torchvision as judges of the prefixes."""

import re
import time

import pytest
import torch
import torchvision
from torch import nn

from cutaway.checkpoints import Run, restore, write_bundle
from cutaway.checkpoints.matching import Described, describe, match, render
from cutaway.errors import BundleError

F = "F32"
NETWORK = {
    "conv1.weight": (F, (6, 1, 5, 5)),
    "conv1.bias": (F, (6,)),
    "fc.weight": (F, (10, 84)),
    "fc.bias": (F, (10,)),
}


def found_names(matching):
    return {pair.name: pair.found_name for pair in matching.loadable}


def test_what_fits_is_loadable_in_the_network_s_order():
    matching = match(NETWORK, dict(reversed(NETWORK.items())))
    assert matching.is_exact
    assert [pair.name for pair in matching.loadable] == list(NETWORK)
    assert matching.num_expected == 4


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module." * 3])
def test_wrappers_prefixes_are_understood_in_any_order_and_number(prefix):
    matching = match(NETWORK, {prefix + name: what for name, what in NETWORK.items()})
    assert matching.is_exact
    assert found_names(matching) == {name: prefix + name for name in NETWORK}


def test_the_names_that_pytorch_s_own_wrappers_give_are_understood():
    plain = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 2)))
    expected = describe(plain.state_dict())
    inner = nn.Sequential(plain[0], torch.compile(plain[1]))
    for wrapped in (nn.DataParallel(plain), torch.compile(nn.DataParallel(plain)), torch.compile(plain), inner):
        names = describe(wrapped.state_dict())
        assert set(names) != set(expected)
        assert match(expected, names).is_exact


def test_the_names_of_torchvision_s_old_densenet_files_are_understood():
    """Renamed the way back from what torchvision does when it loads such a file."""
    expected = describe(torchvision.models.densenet121(weights=None).state_dict())
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name): what for name, what in expected.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert match(expected, old).is_exact


def test_a_network_s_own_module_named_module_keeps_its_name():
    expected = {"module.weight": (F, (1,))}
    assert found_names(match(expected, {"module.module.weight": (F, (1,))})) == {
        "module.weight": "module.module.weight"
    }
    assert not match(expected, {"weight": (F, (1,))}).is_exact


def test_a_plain_name_goes_before_a_prefixed_one():
    matching = match({"a": (F, (1,))}, {"module.a": (F, (1,)), "a": (F, (1,))})
    assert found_names(matching) == {"a": "a"}
    assert [extra.name for extra in matching.unexpected] == ["module.a"]


def test_every_way_not_to_fit_is_told_apart():
    found = {
        "backbone.conv1.weight": (F, (6, 1, 5, 5)),
        "conv1.bias": ("F16", (6,)),
        "fc.weight": (F, (1000, 84)),
        "fc.bias": (F, (10,)),
    }
    matching = match(NETWORK, found)
    assert [pair.name for pair in matching.loadable] == ["fc.bias"]
    assert [(gap.name, gap.nearest) for gap in matching.missing] == [("conv1.weight", ("backbone.conv1.weight",))]
    assert [extra.name for extra in matching.unexpected] == ["backbone.conv1.weight"]
    assert [(pair.name, pair.found.shape) for pair in matching.wrong_shape] == [("fc.weight", (1000, 84))]
    assert [pair.name for pair in matching.wrong_type] == ["conv1.bias"]
    assert not matching.is_exact
    assert render(matching).splitlines() == [
        "  tensor                              the network's     found             nearest name",
        "  fc.weight              wrong shape  F32 [10, 84]      F32 [1000, 84]",
        "  conv1.bias             wrong type   F32 [6]           F16 [6]",
        "  conv1.weight           missing      F32 [6, 1, 5, 5]                    backbone.conv1.weight",
        "  backbone.conv1.weight  unexpected                     F32 [6, 1, 5, 5]",
        "1 of 4 tensors fit.",
    ]


def test_precision_passes_where_the_caller_converts_and_nothing_else_does():
    half = {name: ("F16", shape) for name, (_, shape) in NETWORK.items()}
    assert not match(NETWORK, half).loadable
    matching = match(NETWORK, half, convert=True)
    assert matching.is_exact
    assert len(matching.converted) == 4
    assert [p.name for p in match({"n": ("I64", ())}, {"n": (F, ())}, convert=True).wrong_type] == ["n"]
    assert [p.name for p in match({"w": (F, (2,))}, {"w": ("I8", (2,))}, convert=True).wrong_type] == ["w"]


def test_a_long_table_is_cut_short_and_counted():
    expected = {f"layer{n}.weight": (F, (n,)) for n in range(30)}
    found = {f"other{n}.bias": (F, (n + 100,)) for n in range(20)}
    lines = render(match(expected, found)).splitlines()
    assert len(lines) == 1 + 12 + 2
    assert sum("unexpected" in line for line in lines[:-2]) == 3
    assert lines[-2] == "… and 38 more; in all 30 missing, 20 unexpected."
    assert lines[-1] == "0 of 30 tensors fit."
    assert len(render(match(expected, found), limit=4).splitlines()) == 1 + 4 + 2


def test_the_nearest_names_are_those_of_the_same_shape():
    found = {"head.weight": (F, (10, 84)), "fc.weights": (F, (1,))}
    (gap,) = match({"fc.weight": (F, (10, 84))}, found).missing
    assert gap.nearest == ("head.weight",)


def test_a_thousand_foreign_names_are_compared_in_seconds():
    expected = {f"encoder.layers.{n}.attention.norm.weight": (F, (64,)) for n in range(1000)}
    began = time.perf_counter()
    for rename in ("model.encoder.layers.{}.attention.norm.gamma", "model.encoder.layers.9{}.attention.norm.gamma"):
        matching = match(expected, {rename.format(n): (F, (64,)) for n in range(1000)})
        assert all(gap.nearest for gap in matching.missing)
    assert match(expected, {f"net.{name}": what for name, what in expected.items()}).missing[765].nearest == (
        "net.encoder.layers.765.attention.norm.weight",
    )
    assert time.perf_counter() - began < 15


def test_types_are_called_as_safetensors_calls_them(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    types = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8]
    tensors = {str(dtype): torch.zeros(2, dtype=dtype) for dtype in [*types, torch.bool, torch.int8, torch.int16]}
    save_file(tensors, tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", "pt") as opened:
        for name, described in describe(tensors).items():
            assert described == Described(opened.get_slice(name).get_dtype(), (2,))


def test_a_bundle_whose_weights_are_another_network_s_shows_the_table(tmp_path, make_manifest):
    run = Run(tmp_path)
    run.create()
    path = run.checkpoints / "step-00000001"
    tensors = {"fc1.weight": torch.zeros(3, 16), "fc1.bias": torch.zeros(3), "out.wieght": torch.zeros(2, 3)}
    write_bundle(path, make_manifest(), {"model": tensors | {"out.bias": torch.zeros(7)}})
    with pytest.raises(BundleError) as error:
        restore(path)
    table = error.value.message
    assert re.search(r"out\.weight +missing +F32 \[2, 3\] +out\.wieght", table)
    assert re.search(r"out\.bias +wrong shape +F32 \[2\] +F32 \[7\]", table)
    assert re.search(r"out\.wieght +unexpected", table)
    assert "2 of 4 tensors fit" in table
    assert "checkpoints import" in error.value.hint
