"""Capture of operations, selection, what is kept, and what networks are wrapped into."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.errors import InspectionError
from cutaway.hooks import Call, capture, map_tensors, untouched


class Step(nn.Module):
    """One functional operation, in place or not."""

    def __init__(self, kind: str, *, inplace: bool) -> None:
        super().__init__()
        self.kind, self.inplace = kind, inplace
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.kind == "relu":
            return F.relu(y, inplace=self.inplace)
        if self.kind == "method":
            # The result is not taken: the network goes on with the tensor that was written into.
            if self.inplace:
                y.sigmoid_()
                return y
            return y.sigmoid()
        if self.kind == "add":
            if self.inplace:
                y += x
            else:
                y = y + x
            return y
        if self.kind == "twice":
            z = y.mul_(2) if self.inplace else y * 2
            return F.leaky_relu(z, 0.1, inplace=self.inplace) * 3
        return y


KINDS = ["relu", "method", "add", "twice", "none"]


def steps(kinds: list[str], *, inplace: bool) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(*(Step(kind, inplace=inplace) for kind in kinds), nn.BatchNorm2d(2))


def state(network: nn.Module) -> list[Any]:
    return [
        {name: tensor.clone() for name, tensor in network.state_dict().items()},
        [(p.requires_grad, p.grad) for p in network.parameters()],
        [b.requires_grad for b in network.buffers()],
        [m.training for m in network.modules()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()],
        torch.get_rng_state(),
    ]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) != isinstance(b, Tensor):
        return False
    if isinstance(a, Tensor):
        return torch.allclose(a, b, rtol=1e-5, atol=1e-6)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@settings(max_examples=25, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    gradients=st.booleans(),
    frozen=st.booleans(),
    fails=st.booleans(),
)
def test_twins_agree_in_operations_inputs_and_gradients_and_are_left_as_they_were(
    kinds: list[str], gradients: bool, frozen: bool, fails: bool
) -> None:
    image = torch.linspace(-1, 1, 32).reshape(1, 2, 4, 4)
    seen = []
    for inplace in (False, True):
        network = steps(kinds, inplace=inplace).requires_grad_(not frozen)
        if fails:
            network.append(nn.Linear(77, 1))
        before = state(network)
        with (
            untouched(network),
            pytest.raises(RuntimeError) if fails else untouched(network),
            capture(network, ["*", "*:*"], inputs=True, gradients=gradients) as captured,
        ):
            output = network(image)
            found = captured.gradients(output.square().sum()) if gradients else {}
        assert same(before, state(network))
        seen.append([(call.layer, call.index, call.output, call.inputs) for call in captured.all_calls])
        if not fails:
            seen[-1] += [output, found]
            assert same(output, network(image))
    assert same(*seen)
    assert {call.layer for call in captured.all_calls if ":" in call.layer} >= {
        f"{at}:{op}#0"
        for at, kind in enumerate(kinds)
        for op in {"relu": ["relu"], "method": ["sigmoid"], "add": ["add"], "twice": ["mul", "leaky_relu"]}.get(
            kind, []
        )
    }


def test_a_residual_sum_worked_out_by_hand() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(1, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            y = self.fc(x)
            y += x
            return F.relu(y, inplace=True)

    network = nn.Sequential(OrderedDict(block=Block(), head=nn.Linear(1, 1, bias=False)))
    with torch.no_grad():
        network.block.fc.weight.fill_(-3.0)
        network.head.weight.fill_(5.0)
    with capture(network, ["block.fc", "*:add#0", "block:relu#0"], inputs=True, gradients=True) as captured:
        output = network(torch.tensor([[2.0], [-1.0]]))
    assert captured["block.fc"].tolist() == [[-6], [3]]
    assert captured["block:add#0"].tolist() == [[-4], [2]]
    assert captured["block:relu#0"].tolist() == [[0], [2]]
    assert [part.tolist() for part in captured.call("block:add#0").inputs] == [[[-6], [3]], [[2], [-1]]]
    found = captured.gradients(output.sum(), retain_graph=True)
    assert {name: gradients[0].tolist() for name, gradients in found.items()} == {
        "block.fc": [[0], [5]],
        "block:add#0": [[0], [5]],
        "block:relu#0": [[5], [5]],
    }
    assert captured.gradient(output.sum(), "block:add#0").tolist() == [[0], [5]]
    assert captured.operations == ("block:add#0", "block:relu#0")
    with pytest.raises(InspectionError, match="'block:ad#0' captured") as error:
        captured["block:ad#0"]
    assert "block:add#0" in str(error.value.hint)


def test_gradients_in_a_network_in_place_are_autograds_own_in_one_that_is_not() -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None, num_classes=3).eval()
    image = torch.randn(1, 3, 32, 32)
    with capture(network, ["*", "*:*"], gradients=True) as captured:
        output = network(image)
    found = captured.gradients(output[:, 1].sum())
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    outputs: list[tuple[str, Tensor]] = []
    for name, module in network.named_modules():
        module.register_forward_hook(lambda *args, name=name: outputs.append((name, args[2])))
    expected = torch.autograd.grad(network(image)[:, 1].sum(), [tensor for _, tensor in outputs])
    by_layer: dict[str, list[Tensor]] = {}
    for (name, _), gradient in zip(outputs, expected, strict=True):
        by_layer.setdefault(name, []).append(gradient)
    assert {name for name in found if ":" not in name} == set(by_layer)
    assert all(same(list(found[name]), gradients) for name, gradients in by_layer.items())
    assert len([name for name in found if ":add#0" in name]) == 8


def test_layers_are_chosen_by_type_by_condition_and_in_any_mixture() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2))
    for layers, expected in (
        (nn.Conv2d, ("0",)),
        ([nn.Conv2d, "3"], ("0", "3")),
        (lambda name, module: isinstance(module, nn.ReLU) or name == "2", ("1", "2")),
        ("*", ("", "0", "1", "2", "3")),
    ):
        with capture(network, layers) as captured:
            network(torch.ones(1, 1, 1, 1))
        assert captured.layers == expected
    with pytest.raises(InspectionError, match="is a LSTM"), capture(network, nn.LSTM):
        pass
    with pytest.raises(InspectionError, match="meets the condition"), capture(network, lambda *_: False):
        pass


def test_functions_take_the_tensors_place_and_calls_can_be_passed_on() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    calls: list[Call] = []
    with capture(network, keep=lambda tensor: tuple(tensor.shape), on_call=calls.append) as captured:
        network(torch.ones(3, 2))
        network(torch.ones(4, 2))
    assert [(call.layer, call.output, call.index, call.turn) for call in calls] == [
        ("0", (3, 2), 0, 0),
        ("1", (3, 2), 0, 0),
        ("0", (4, 2), 1, 0),
        ("1", (4, 2), 1, 0),
    ]
    assert not captured.all_calls

    def fail(tensor: Tensor) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), capture(network, [nn.ReLU, "*:add#*"], keep=fail):
        network(torch.ones(1, 2))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert torch.is_grad_enabled()
    with pytest.raises(InspectionError, match="taken at tensors"), capture(network, keep="stats", gradients=True):
        pass


def test_statistics_keep_the_turns_of_a_shared_layer_apart() -> None:
    relu = nn.ReLU()
    network = nn.Sequential(relu, nn.Linear(1, 1, bias=False), relu)
    with torch.no_grad():
        network[1].weight.fill_(-1.0)
    with capture(network, nn.ReLU, keep="stats") as captured:
        for value in (1.0, 3.0):
            network(torch.tensor([[value], [-value]]))
    first, second = captured.statistics["0"], captured.statistics["0[1]"]
    assert (first.count, first.mean, first.maximum, first.zeros) == (4, 1.0, 3.0, 0.5)
    assert (second.count, second.maximum, second.zeros) == (4, 0.0, 1.0)
    assert not captured.all_calls


def test_nested_captures_see_the_network_and_not_each_other() -> None:
    network = steps(["relu", "add"], inplace=True).eval()
    image = torch.randn(1, 2, 4, 4)
    plain = network(image)
    with capture(network, "*:*") as alone:
        network(image)
    with (
        capture(network, ["*", "*:*"], inputs=True, gradients=True) as outer,
        capture(network, ["*", "*:*"], gradients=True) as inner,
    ):
        output = network(image)
    assert outer.operations == inner.operations == alone.operations
    assert same(output, plain)
    by_inner, by_outer = (captured.gradients(output.sum(), retain_graph=True) for captured in (inner, outer))
    assert same(by_inner, by_outer)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_names_are_the_same_in_a_wrapper_and_may_be_written_either_way(wrap: Any) -> None:
    network = steps(["relu"], inplace=True).eval()
    wrapped = wrap(network)
    image = torch.randn(1, 2, 4, 4)
    with capture(network, ["0.conv", "0:relu#0"]) as plain:
        network(image)
    with capture(wrapped, ["0.conv", "module.0.conv", "0:relu#0", "module.1"]) as captured:
        wrapped(image)
    assert same(captured["0.conv"], plain["0.conv"])
    assert same(captured["module.0.conv"], plain["0.conv"])
    assert same(captured["0:relu#0"], plain["0:relu#0"])
    assert len(captured.all_calls) == 3


def test_names_under_distributed_data_parallel(tmp_path: Any) -> None:
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        network = nn.parallel.DistributedDataParallel(steps(["relu"], inplace=True))
        with capture(network, ["0.conv", "module.0:relu#0"], gradients=True) as captured:
            output = network(torch.randn(1, 2, 4, 4))
        assert captured.gradient(output.sum(), "0.conv").shape == (1, 2, 4, 4)
        assert [call.layer for call in captured.all_calls] == ["0.conv", "0:relu#0"]
    finally:
        distributed.destroy_process_group()


def test_a_compiled_network_runs_uncompiled_inside_the_block() -> None:
    compiled: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(len(inputs))
        return graph.forward

    network = steps(["relu"], inplace=True).eval()
    whole = torch.compile(network, backend=backend)
    inside = nn.Sequential(torch.compile(network[0], backend=backend), network[1])
    in_place = steps(["relu"], inplace=True).eval()
    in_place.compile(backend=backend)
    image = torch.randn(1, 2, 4, 4)
    expected = network(image)
    for candidate in (whole, inside, in_place):
        candidate(image)
        before = len(compiled)
        assert before
        for _ in range(2):
            with capture(candidate, ["0.conv", "0:relu#0"]) as captured:
                assert same(candidate(image), expected)
            assert [call.layer for call in captured.all_calls] == ["0.conv", "0:relu#0"]
        candidate(image)
        assert len(compiled) == before


def test_under_inference_mode_what_is_kept_is_an_ordinary_tensor() -> None:
    network = steps(["relu"], inplace=True)
    with torch.inference_mode(), capture(network, ["*", "*:*"]) as captured:
        network(torch.randn(1, 2, 4, 4))
    assert captured.all_calls
    assert not any(call.tensor.is_inference() for call in captured.all_calls)


def test_autocast_and_a_device_to_keep_on() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with torch.autocast("cpu", torch.bfloat16), capture(network, gradients=True, device="cpu") as captured:
        output = network(torch.ones(1, 2))
    assert captured["0"].dtype == torch.bfloat16
    assert captured.gradient(output.float().sum(), "1").tolist() == [[1, 1]]
    with capture(network, gradients=True, device="meta") as captured:
        output = network(torch.ones(1, 2))
    assert captured["0"].is_meta
    assert captured.gradients(output.sum())["1"][0].tolist() == [[1, 1]]


def test_buffers_that_an_operation_writes_to_are_no_part_of_the_graph() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("level", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.level.mul_(0.5).add_(x.detach().mean())
            return x * 2

    network = nn.Sequential(Counting())
    with capture(network, "*:*", gradients=True, inside_leaves=True) as captured:
        output = network(torch.ones(1))
    assert not network[0].level.requires_grad
    assert network[0].level.item() == 1
    assert captured.gradients(output.sum())["0:mul#1"][0].item() == 1


@dataclass
class Found:
    scores: Tensor
    names: list[str]


def test_dataclasses_ordered_dictionaries_and_torchs_own_tuples_are_mapped() -> None:
    structure = {"a": Found(torch.ones(1), ["x"]), "b": OrderedDict(z=torch.ones(1)), "c": torch.ones(1, 2).max(dim=1)}
    found = map_tensors(lambda tensor: tensor + 1, structure)
    assert found["a"] == Found(torch.tensor([2.0]), ["x"])
    assert isinstance(found["b"], OrderedDict)
    assert found["b"]["z"].item() == 2
    assert (found["c"].values.item(), found["c"].indices.item()) == (2, 1)
    assert structure["a"].scores.item() == 1


def test_attention_runs_module_by_module() -> None:
    network = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1).eval()
    with torch.no_grad(), capture(network, "layers.0.linear1") as captured:
        network(torch.randn(1, 3, 4))
    assert captured["layers.0.linear1"].shape == (1, 3, 8)
    # With a mask the fast path would hand nested tensors to the layers.
    inputs, is_padding = torch.randn(2, 3, 4), torch.tensor([[False, False, True], [False, False, False]])
    with torch.no_grad(), capture(network, ["layers.0.self_attn", "layers.0.linear1"]) as captured:
        network(inputs, src_key_padding_mask=is_padding)
    assert captured["layers.0.linear1"].shape == (2, 3, 8)
    assert captured["layers.0.self_attn"][0].shape == (2, 3, 4)
    assert torch.backends.mha.get_fastpath_enabled()
