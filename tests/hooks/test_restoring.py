"""What `untouched` puts back where something stands in its way."""

from __future__ import annotations

import copy
import random
import sys
from collections import OrderedDict, deque

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.hooks import restoring as restoring_module
from cutaway.hooks import run_on_shapes, seed_torch, untouched
from cutaway.inspect.attribution import saliency


def test_a_sparse_gradient_is_no_obstacle() -> None:
    network = nn.Sequential(nn.Embedding(5, 2, sparse=True), nn.Linear(2, 1))
    network(torch.tensor([1, 3])).sum().backward()
    grad = network[0].weight.grad
    assert grad.is_sparse
    content, before = grad.to_dense().clone(), torch.get_rng_state()
    with untouched(network):
        network.requires_grad_(False).eval()
        torch.rand(3)
        grad.mul_(2)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert network[0].weight.grad is grad
    assert torch.equal(grad.to_dense(), content)
    assert torch.equal(torch.get_rng_state(), before)
    assert network.training


@pytest.mark.parametrize("kind", ["csr", "nested"])
def test_buffers_of_other_layouts_are_no_obstacle(kind: str) -> None:
    network = nn.Linear(2, 1)
    odd = torch.eye(2).to_sparse_csr() if kind == "csr" else torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])
    network.register_buffer("odd", odd)
    with untouched(network):
        network.requires_grad_(False)
        network.odd = None
    assert network.odd is odd
    assert network.weight.requires_grad


def test_what_cannot_be_put_back_keeps_nothing_else_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    random_states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1:3]

    def fails(self: object) -> None:
        raise RuntimeError("not implemented")

    monkeypatch.setattr(restoring_module, "_restore_buffers", fails)

    def disturb() -> None:
        with untouched(network):
            network.eval().requires_grad_(False)
            network[1].register_forward_hook(lambda *_: None)
            torch.rand(1), random.random(), np.random.random()

    with pytest.raises(RuntimeError, match="not implemented"):
        disturb()
    assert network.training
    assert network[1].weight.requires_grad
    assert not network[1]._forward_hooks
    assert torch.equal(torch.get_rng_state(), random_states[0])
    assert random.getstate() == random_states[1]
    assert str(np.random.get_state()[1:3]) == str(random_states[2])


def test_however_many_cannot_be_put_back_the_last_step_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Module()
    for number in range(sys.getrecursionlimit()):
        network.register_buffer(f"buffer{number}", torch.zeros(1))
    random_state = torch.get_rng_state()
    errors = iter([RuntimeError("first"), *[RuntimeError("later")] * len(network._buffers)])

    def fails(*content: object) -> None:
        raise next(errors)

    monkeypatch.setattr(restoring_module, "_restore_content", fails)

    def disturb() -> None:
        with untouched(network):
            network.buffer0.add_(1)
            torch.rand(1)

    with pytest.raises(RuntimeError, match="first"):
        disturb()
    assert torch.equal(torch.get_rng_state(), random_state)


def test_an_interrupt_while_things_are_put_back_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.BatchNorm1d(2)
    errors = iter([RuntimeError("first"), KeyboardInterrupt(), RuntimeError("later")])

    def fails(self: object) -> None:
        raise next(errors)

    monkeypatch.setattr(restoring_module, "_restore_buffers", fails)
    with pytest.raises(KeyboardInterrupt), untouched(network):
        network.eval()
    assert network.training


def test_numpys_random_state_is_put_back() -> None:
    np.random.seed(0)
    expected = np.random.random(3).tolist()
    np.random.seed(0)
    with untouched(nn.Linear(1, 1)):
        np.random.random(1000)
    assert np.random.random(3).tolist() == expected


def test_a_buffer_gets_its_shape_back_too() -> None:
    network = nn.Module()
    for name, value in (("one", [1.0]), ("two", [1.0, 2.0]), ("three", [3.0])):
        network.register_buffer(name, torch.tensor(value))
    with untouched(network):
        network.one.resize_(2, 2)
        network.two.zero_()
        network.three.zero_()
    assert network.one.tolist() == [1]
    assert network.two.tolist() == [1, 2]
    assert network.three.tolist() == [3]


def test_a_buffer_gets_its_shape_back_where_its_values_stayed() -> None:
    network = nn.Module()
    network.register_buffer("row", torch.arange(4.0))
    network.register_buffer("table", torch.arange(6.0).view(2, 3))
    with untouched(network):
        network.row.resize_(2, 2)
        network.table.resize_(3, 2)
    assert network.row.tolist() == [0, 1, 2, 3]
    assert network.table.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_buffers_of_every_kind_are_put_back() -> None:
    network = nn.Module()
    kinds = {
        "scalar": torch.tensor(1.5),
        "count": torch.tensor(3),
        "row": torch.tensor([1.0, 2.0]),
        "other_row": torch.tensor([3.0]),
        "none_at_all": torch.empty(0),
        "table": torch.arange(6.0).view(2, 3),
        "turned": torch.arange(6.0).view(3, 2).t(),
        "flags": torch.tensor([True, False]),
        "halves": torch.ones(2, dtype=torch.bfloat16),
        "not_a_number": torch.tensor([torch.nan, 1.0]),
        "sparse": torch.tensor([0.0, 4.0]).to_sparse(),
    }
    for name, value in kinds.items():
        network.register_buffer(name, value.clone())
    with untouched(network):
        for buffer in network.buffers():
            buffer.copy_(torch.zeros_like(buffer))
    for name, value in kinds.items():
        now = getattr(network, name)
        assert now.shape == value.shape
        assert torch.equal(now.to_dense().nan_to_num(7), value.to_dense().nan_to_num(7)), name


def test_the_content_of_gradients_is_put_back() -> None:
    network = nn.Linear(2, 1)
    network(torch.tensor([[2.0, 3.0]])).sum().backward()
    grad = network.weight.grad
    with untouched(network):
        network(torch.ones(1, 2)).sum().backward()
        network.bias.grad.zero_()
        assert grad.tolist() == [[3, 4]]
    assert network.weight.grad is grad
    assert grad.tolist() == [[2, 3]]
    assert network.bias.grad.tolist() == [1]


def test_a_network_made_under_inference_mode_is_refused_before_anything_is_touched() -> None:
    with torch.inference_mode():
        network = nn.Linear(2, 1)
    with pytest.raises(InspectionError, match="inference_mode"), untouched(network):
        pytest.fail("the block ran")
    assert network.weight.requires_grad
    with torch.inference_mode(), untouched(network):
        network(torch.ones(1, 2))
    # As the hint says.
    twin = copy.deepcopy(network)
    with untouched(twin):
        twin.requires_grad_(False)
    assert twin.weight.requires_grad


def test_a_network_without_shapes_is_refused_in_words() -> None:
    network = nn.Sequential(nn.LazyLinear(2), nn.LazyBatchNorm1d())
    with pytest.raises(InspectionError, match=r"'0.weight' has no shape yet"), untouched(network):
        pytest.fail("the block ran")
    network(torch.ones(3, 4))
    with untouched(network):
        network(torch.ones(3, 4))


class Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.seen: list[Tensor] = []
        self.sizes: set[int] = set()
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if float(x.sum()) >= 0:  # needs values
            self.last = self.conv(x)
        self.seen.append(self.last)
        self.sizes.add(len(x))
        self.extra = x
        self.register_buffer("tmp", x, persistent=False)
        return self.last.mean((2, 3))


def test_attributes_of_modules_are_put_back() -> None:
    def is_clean(network: Remembers) -> bool:
        nothing = network.last is None and not network.seen and not network.sizes
        return nothing and not hasattr(network, "extra") and not network._non_persistent_buffers_set

    network = Remembers()
    run_on_shapes(network, (1, 1, 2, 2), lambda: None)
    assert is_clean(network)
    saliency(network, torch.ones(1, 1, 2, 2))
    assert is_clean(network)


def test_what_a_module_was_given_before_torch_made_it_one_is_put_back_too() -> None:
    class Early(nn.Module):
        def __init__(self) -> None:
            self.seen: list[int] = []
            super().__init__()
            self.late: set[int] = set()

    network = nn.Sequential(Early())
    with untouched(network):
        network[0].seen.append(1)
        network[0].late.add(1)
        network[0].extra = 1
    assert network[0].seen == []
    assert network[0].late == set()
    assert not hasattr(network[0], "extra")


def test_parameters_and_children_are_put_back() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    first, weight, bias = network[0], network[0].weight, network[0].bias
    with untouched(network):
        del first.weight
        first.bias = nn.Parameter(torch.ones(2))
        first.scale = nn.Parameter(torch.ones(1))
        network[0] = nn.Identity()
        network.append(nn.Linear(2, 1))
    assert list(network) == [first, network[1]]
    assert [name for name, _ in first.named_parameters()] == ["weight", "bias"]
    assert first.weight is weight
    assert first.bias is bias


def test_a_head_that_the_first_run_makes_is_not_left_from_a_run_on_shapes() -> None:
    class MakesItsHead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 2, 3)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.stem(images).mean((2, 3))
            if not hasattr(self, "head"):
                self.head = nn.Linear(maps.shape[1], 3)
            return self.head(maps)

    network = MakesItsHead()
    run_on_shapes(network, (2, 1, 8, 8), lambda: None)
    assert list(network.state_dict()) == ["stem.weight", "stem.bias"]


def test_what_containers_and_tensors_of_a_module_hold_is_put_back() -> None:
    network = nn.Linear(2, 1)
    network.recent = deque([1, 2], maxlen=2)
    network.kept = {"maps": [torch.zeros(2)], "sizes": [[8]]}
    network.count = torch.zeros(1)
    itself: list[object] = [network.kept]
    itself.append(itself)
    network.itself = itself  # type: ignore[assignment]
    with untouched(network):
        network.recent.append(3)
        network.kept["maps"][0].add_(1)
        network.kept["maps"].append(torch.ones(2))
        network.kept["sizes"][0][0] = 4
        network.count += 1
    assert network.recent == deque([1, 2])
    assert network.recent.maxlen == 2
    assert [maps.tolist() for maps in network.kept["maps"]] == [[0, 0]]
    assert network.kept["sizes"] == [[8]]
    assert network.count.tolist() == [0]


@pytest.mark.parametrize("kind", [OrderedDict, dict])
def test_settings_that_nobody_may_write_into_keep_what_they_hold(kind: type[dict[str, int]]) -> None:
    class Frozen(kind):  # type: ignore[misc, valid-type]
        def update(self, *args: object, **kwargs: object) -> None:
            raise TypeError("frozen")

        def copy(self) -> dict[str, int]:
            raise TypeError("frozen")

    network = nn.Linear(2, 1)
    network.settings = Frozen(depth=2)
    with untouched(network):
        pass
    assert network.settings == {"depth": 2}


def test_a_weight_that_hooks_make_keeps_its_way_back() -> None:
    network = nn.Sequential(nn.utils.weight_norm(nn.Linear(2, 2)))
    weight = network[0].weight
    with untouched(network), torch.no_grad():
        network(torch.ones(1, 2))
    assert network[0].weight is weight
    assert network[0].weight.requires_grad


def test_seeding_leaves_an_accelerator_that_has_not_started_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", told.append)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(8, 2))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    saliency(network, torch.ones(1, 1, 2, 2))
    seed_torch(7)
    first = torch.rand(2)
    torch.default_generator.manual_seed(7)
    assert torch.equal(first, torch.rand(2))
    assert told == []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    seed_torch(7)
    assert told == [7]
