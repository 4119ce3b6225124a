"""What may be chosen to be captured, and what is said where a choice is none or matches nothing."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.errors import InspectionError
from cutaway.hooks import capture


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.conv(images))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(Step(), nn.BatchNorm2d(2))
        self.fc = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.block(images).mean((2, 3))) * 2


def test_what_is_kept_is_refused_in_words_where_it_is_no_choice() -> None:
    for keep in ("foo", "stat", None):
        with pytest.raises(InspectionError, match=f"not {keep!r}"), capture(Branching(), "fc", keep=keep):
            pass


def test_what_is_no_choice_of_layers_gets_a_sentence() -> None:
    for layers, said in (
        ([("fc", "block")], r"stands a tuple: \('fc', 'block'\)"),
        ([(nn.Linear, nn.ReLU)], "stands a tuple"),
        (3, "not by 3"),
        (["fc", None], "not by"),
        ([], r"not by \[\]"),
    ):
        with pytest.raises(InspectionError, match=said), capture(Branching(), layers):
            pass
    network = Branching()
    with capture(network, ("fc", "block")) as captured:
        network(torch.ones(1, 2, 4, 4))
    for read in (captured.__getitem__, captured.calls):
        for several in (("fc", "block"), ["fc"], 0):
            with pytest.raises(InspectionError, match="One layer is read at a time"):
                read(several)


def test_a_condition_takes_a_name_and_a_layer() -> None:
    said = "takes a layer's name and the layer: too many positional arguments"
    with pytest.raises(InspectionError, match=said), capture(Branching(), lambda layer: layer):  # type: ignore[arg-type, misc]
        pass


def test_names_that_are_near_are_told_once_and_others_are_not_called_meant() -> None:
    network = Branching()
    with pytest.raises(InspectionError, match=r"in this network\. There are 'block', ") as told:
        capture(network, "zzz*").__enter__()
    assert "mean" not in str(told.value)
    with capture(network, ["fc", ":mean#0"]) as captured:
        network(torch.ones(1, 2, 4, 4))
    with pytest.raises(InspectionError) as told:
        captured[":men#0"]
    assert str(told.value).count("':mean#0'") == 1


def test_a_capture_goes_over_the_names_of_its_layers_in_a_loop() -> None:
    network = Branching()
    with capture(network, ["fc", "block"]) as captured:
        network(torch.ones(1, 2, 4, 4))
    assert tuple(captured) == captured.layers == ("block", "fc")
    assert {name: captured[name].shape for name in captured}["fc"] == captured["fc"].shape


def test_a_layer_in_place_of_the_scalar_is_told() -> None:
    network = Branching()
    with capture(network, "fc", gradients=True) as captured:
        total = network(torch.ones(1, 2, 4, 4)).sum()
    with pytest.raises(InspectionError, match=r"not of 'fc'\. Give the scalar first"):
        captured.gradient("fc", total)
    with pytest.raises(InspectionError, match="Give the scalar first"):
        captured.gradients("fc")


def test_a_gradient_of_several_numbers_is_told_with_what_makes_one_of_them() -> None:
    network = Branching()
    with capture(network, "fc", gradients=True) as captured:
        logits = network(torch.ones(2, 2, 4, 4))
    with pytest.raises(InspectionError, match=r"the shape \[2\]\. Add up"):
        captured.gradient(logits[:, 0], "fc")
    with pytest.raises(InspectionError, match="Add up"):
        captured.gradients(logits)


def test_names_and_patterns_of_operations_that_match_nothing_are_told() -> None:
    network, image = Branching(), torch.ones(1, 2, 4, 4)
    with pytest.raises(InspectionError, match="No layer 'blok'"), capture(network, ["fc", "blok:relu#0"]):
        pass
    with (
        pytest.raises(InspectionError, match=r"No operation ':add#0' ran.*':mul#0'"),
        capture(network, ["fc", ":add#0"]),
    ):
        network(image)
    with pytest.raises(InspectionError, match=r"No operation '\*:add#\*' ran"), capture(network, "*:add#*"):
        network(image)
    with pytest.warns(UserWarning, match=r"No operation '\*:add#\*' ran") as told, capture(network, ["fc", "*:add#*"]):
        network(image)
    assert told[0].filename == __file__
    # Nothing is known where the network did not run, and whatever there is may be nothing.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # what earlier tests left to the garbage collector
        with capture(network, ["fc", ":add#0"]):
            pass
        bare = nn.Sequential(nn.ReLU())
        with capture(bare, ["*", "*:*"]) as captured:
            bare(image)
        with pytest.raises(RuntimeError, match="size"), capture(network, ["fc", ":add#0"]):
            network(image) @ torch.ones(7)
    assert not captured.operations


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda module: torch.compile(module, backend="eager")])
def test_a_wrapper_in_the_middle_of_a_network_changes_no_name(wrap: Any) -> None:
    network, image = Branching().eval(), torch.ones(1, 2, 4, 4)
    with capture(network, ["block.0.conv", "block.0:relu#0"]) as plain:
        network(image)
    network.block = wrap(network.block)
    part = next(iter(network.block._modules))
    for whole, prefix in (
        (network, ""),
        (nn.DataParallel(torch.compile(network, backend="eager")), "module._orig_mod."),
    ):
        conv, relu = f"{prefix}block.{part}.0.conv", f"{prefix}block.{part}.0:relu#0"
        with capture(whole, ["block.0.conv", conv, relu]) as captured:
            whole(image)
        assert [call.layer for call in captured.all_calls] == ["block.0.conv", "block.0:relu#0"]
        assert torch.equal(captured[conv], plain["block.0.conv"])
        assert torch.equal(captured[relu], plain["block.0:relu#0"])
        with capture(whole, [f"{prefix}block.{part}.*", f"*.{part}.0:relu#*"]) as captured:
            whole(image)
        assert "block.0.conv" in captured.layers
        assert "fc" not in captured.layers
        assert "block.0:relu#0" in captured.layers
