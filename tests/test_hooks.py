from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.hooks import capture, map_tensors, untouched


def twin(inplace: bool) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3)
    )


IMAGES = torch.linspace(-1, 1, 2 * 64).reshape(2, 1, 8, 8)


def state(network: nn.Module) -> list[Any]:
    return [
        {name: tensor.clone() for name, tensor in network.state_dict(keep_vars=False).items()},
        [module.training for module in network.modules()],
        [parameter.requires_grad for parameter in network.parameters()],
        [None if parameter.grad is None else parameter.grad.clone() for parameter in network.parameters()],
        [list(module._forward_hooks) + list(module._forward_pre_hooks) for module in network.modules()],
        torch.get_rng_state(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
    ]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def disturb(network: nn.Module) -> None:
    network.train()
    network(IMAGES).sum().backward()
    network.eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    network[0].register_forward_hook(lambda *_: None)
    network[0].register_forward_pre_hook(lambda *_: None)
    network[1].running_mean = torch.ones(4)
    network[1].register_buffer("extra", torch.ones(1))
    random.random()
    np.random.random()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("has_grad", [False, True])
def test_untouched_puts_everything_back(fails: bool, has_grad: bool) -> None:
    network = twin(True)
    network[3].eval()
    network[5].weight.requires_grad_(False)
    network[2].register_forward_hook(lambda *_: None)
    if has_grad:
        network(IMAGES).sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    buffers = dict(network[1]._buffers)
    before = state(network)
    with pytest.raises(KeyError) if fails else untouched(twin(False)), untouched(network):
        disturb(network)
        assert not same(before, state(network))
        if fails:
            raise KeyError
    assert same(before, state(network))
    # Not only equal: the same objects, so an optimizer or a reducer that holds them stays attached.
    assert all(parameter.grad is grad for parameter, grad in zip(network.parameters(), gradients, strict=True))
    assert all(network[1]._buffers[name] is buffer for name, buffer in buffers.items())


def test_untouched_puts_batch_norm_back_under_inference_mode() -> None:
    network = twin(False)
    before = state(network)
    with untouched(network), torch.inference_mode():
        network(IMAGES)
    assert same(before, state(network))


def test_untouched_keeps_handles_of_earlier_hooks_working() -> None:
    network = twin(False)
    handle = network[0].register_forward_hook(lambda *_: None)
    with untouched(network):
        network[0].register_forward_hook(lambda *_: None)
    assert len(network[0]._forward_hooks) == 1
    handle.remove()
    assert not network[0]._forward_hooks


def test_untouched_spares_a_graph_that_holds_the_buffers() -> None:
    network = twin(False).eval()
    with untouched(network):
        loss = network(IMAGES).sum()
    loss.backward()
    assert network[0].weight.grad is not None


@settings(max_examples=20, deadline=None)
@given(
    layers=st.lists(st.sampled_from(["conv", "norm", "relu", "dropout", "hardswish"]), min_size=1, max_size=6),
    training=st.booleans(),
    fails=st.booleans(),
    gradients=st.booleans(),
)
def test_twins_with_and_without_in_place_operations_show_the_same(
    layers: list[str], training: bool, fails: bool, gradients: bool
) -> None:
    def build(inplace: bool) -> nn.Sequential:
        torch.manual_seed(0)
        kinds = {
            "conv": lambda: nn.Conv2d(2, 2, 3, padding=1),
            "norm": lambda: nn.BatchNorm2d(2),
            "relu": lambda: nn.ReLU(inplace),
            "dropout": lambda: nn.Dropout(0.5, inplace),
            "hardswish": lambda: nn.Hardswish(inplace),
        }
        return nn.Sequential(nn.Conv2d(1, 2, 1), *(kinds[kind]() for kind in layers)).train(training)

    seen = []
    for inplace in (False, True):
        network = build(inplace)
        if fails:
            network.append(nn.Linear(99, 1))
        before = state(network)
        with (
            untouched(network),
            pytest.raises(RuntimeError) if fails else untouched(network),
            capture(network, inputs=True, gradients=gradients) as captured,
        ):
            network(IMAGES)
        assert same(before, state(network))
        seen.append([(call.layer, call.index, call.output, call.inputs) for call in captured.all_calls])
    assert same(*seen)
    assert len(seen[0]) == 1 + len(layers)


def test_what_is_captured_is_worked_out_by_hand() -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(inplace=True), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        network[0].weight.fill_(-2)
        network[2].weight.fill_(5)
    with capture(network, "0", gradients=True) as captured:
        output = network(torch.tensor([[-3.0], [4.0]]))
    # -2 times -3 is 6 and passes the ReLU; -2 times 4 is -8 and must be seen although the ReLU wrote over it.
    assert captured["0"].tolist() == [[6.0], [-8.0]]
    assert captured.gradient(output.sum(), "0").tolist() == [[5.0], [0.0]]


def test_an_alias_that_is_changed_later_does_not_change_the_capture() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shortcut = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            x = x + 1
            kept = self.shortcut(x)
            x.add_(10)
            return kept + x

    for gradients in (False, True):
        with capture(Residual(), gradients=gradients) as captured:
            Residual()(torch.zeros(1))
        assert not captured.all_calls
        network = Residual()
        with capture(network, gradients=gradients) as captured:
            network(torch.zeros(1))
        assert captured["shortcut"].tolist() == [1.0]


def test_each_call_is_kept_apart_with_its_inputs() -> None:
    class Repeating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice = Twice()

        def forward(self, x: Tensor) -> Tensor:
            return self.twice(x=self.twice(self.twice(x)))

    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2)

    network = Repeating()
    with capture(network, "twice", inputs=True) as captured:
        network(torch.ones(1))
    calls = captured.calls("twice")
    assert [call.index for call in calls] == [0, 1, 2]
    assert [call.tensor.item() for call in calls] == [2, 4, 8]
    assert [call.inputs[0].item() for call in calls[:2]] == [1, 2]
    assert calls[2].keyword_inputs == {"x": torch.tensor([4.0])}
    with pytest.raises(InspectionError, match="called 3 times"):
        captured["twice"]


class Pair(NamedTuple):
    first: Tensor
    second: Tensor | None


def test_outputs_of_any_structure_are_copied_and_lead_back() -> None:
    class Many(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Any]:
            return {"pair": Pair(x * 2, None), "list": [x * 3, (x * 4, "text")], "index": torch.ones(1).long()}

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.many = Many()

        def forward(self, x: Tensor) -> Tensor:
            found = self.many(x)
            found["pair"].first.add_(100)
            return found["pair"].first + found["list"][0] + found["list"][1][0]

    network = Whole()
    with capture(network, "many", gradients=True) as captured:
        output = network(torch.ones(1))
    found = captured["many"]
    assert isinstance(found["pair"], Pair)
    assert (found["pair"].first.item(), found["list"][0].item(), found["list"][1][1]) == (2, 3, "text")
    (gradient,) = torch.autograd.grad(output.sum(), found["list"][1][0])
    assert gradient.item() == 1
    with pytest.raises(InspectionError, match="returns a dict"):
        captured.call("many").tensor  # noqa: B018


def test_names_globs_and_leaves() -> None:
    network = nn.ModuleDict({"a": nn.Sequential(nn.Linear(1, 1), nn.ReLU()), "b": nn.Linear(1, 1)})
    with capture(network) as captured:
        assert captured.layers == ("a.0", "a.1", "b")
    with capture(network, ["b", "a.*"]) as captured:
        assert captured.layers == ("a.0", "a.1", "b")
    with capture(network, "a") as captured:
        network["a"](torch.ones(1, 1))
        assert captured.layers == ("a",)
        assert captured["a"].shape == (1, 1)
    with pytest.raises(InspectionError, match=r"No layer 'aa'.*'a'"), capture(network, "aa"):
        pass
    with pytest.raises(InspectionError, match="No layer 'c' captured"):
        captured["c"]
    with capture(network) as captured, pytest.raises(InspectionError, match="'b' was not called"):
        captured["b"]


def test_a_module_with_two_names_is_seen_once_and_found_by_both() -> None:
    shared = nn.Linear(1, 1)
    network = nn.Sequential(shared, nn.ReLU(), shared)
    with capture(network, ["0", "2"]) as captured:
        network(torch.ones(1, 1))
    assert len(captured.all_calls) == 2
    assert captured.calls("2") == captured.calls("0")


def test_gradients_pass_frozen_weights_and_no_grad_and_write_no_grad() -> None:
    network = twin(True).eval().requires_grad_(False)
    with torch.no_grad(), capture(network, "1", gradients=True) as captured:
        logits = network(IMAGES)
    gradient = captured.gradient(logits[:, 2].sum(), "1")
    flat = network[5].weight[2].reshape(1, 4, 6, 6).expand(2, -1, -1, -1)
    assert torch.equal(gradient, flat * (captured["1"] > 0))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_gradients_without_autograd_are_an_error_in_words() -> None:
    network = twin(True).eval()
    with (
        pytest.raises(InspectionError, match="inference_mode"),
        torch.inference_mode(),
        capture(network, "0", gradients=True),
    ):
        pass
    for mode in (torch.inference_mode, torch.no_grad):
        with pytest.raises(InspectionError, match=mode.__name__), capture(network, "0", gradients=True), mode():
            network(IMAGES)
        assert not network[0]._forward_hooks
    with capture(network, "0") as captured, torch.no_grad():
        logits = network(IMAGES)
    with pytest.raises(InspectionError, match="without autograd"):
        captured.gradient(logits.sum(), "0")
    with capture(network, ["0", "5"], gradients=True) as captured:
        network(IMAGES)
    with pytest.raises(InspectionError, match="does not depend on layer '5'"):
        captured.gradient(captured["0"].sum(), "5")


def test_without_gradients_nothing_holds_the_graph() -> None:
    network = twin(False)
    with capture(network) as captured:
        network(IMAGES)
    assert not any(call.tensor.requires_grad for call in captured.all_calls)


def test_map_tensors_keeps_types() -> None:
    found = map_tensors(lambda tensor: tensor + 1, {"a": (torch.zeros(1), [torch.zeros(1)], 3)})
    assert found == {"a": (torch.ones(1), [torch.ones(1)], 3)}
