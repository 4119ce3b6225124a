"""A target layer that was found once is not looked for again, for as long as the network is what it was."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.errors import NetworkError
from cutaway.networks import target_layers
from cutaway.networks.target_layers import TargetLayer, find_target_layer, find_target_layers

SHAPE = (1, 8, 8)
LAST = TargetLayer("second", "nchw")
DEPTH = 2
OPTIONS = {"depths": [2]}
runs: list[nn.Module] = []


class Stages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU())
        self.second = nn.Conv2d(2, 3, 3, padding=1)
        self.head = nn.Linear(3, 2)
        self.depth = 2
        self.options = {"pools": [1, 1]}
        self.activation: Any = partial(F.gelu, approximate="tanh")

    def forward(self, images: Tensor) -> Tensor:
        first, second, head = self.children()
        maps = self.activation(first(images))
        if self.depth > 1:
            maps = second(maps)
        side = self.options["pools"][0]
        return head(F.pad(F.adaptive_avg_pool2d(maps, side).mean((2, 3)), (0, 3 - maps.shape[1])))


@pytest.fixture(autouse=True)
def note_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs.clear()
    run = target_layers._run

    def noting(network: nn.Module, *others: Any) -> Any:
        runs.append(network)
        return run(network, *others)

    monkeypatch.setattr(target_layers, "_run", noting)


def looks_for(network: nn.Module, shape: tuple[int, int, int] = SHAPE) -> bool:
    """Whether the network is run to find its target layer."""
    runs.clear()
    find_target_layer(network, shape)
    return bool(runs)


def test_it_is_looked_for_once() -> None:
    network = Stages()
    assert find_target_layer(network, SHAPE) == LAST
    assert runs
    runs.clear()
    assert find_target_layer(network, SHAPE) == LAST
    assert not runs


def test_weights_modes_and_gradients_change_nothing() -> None:
    network = Stages()
    find_target_layer(network, SHAPE)
    for change in (
        network.eval,
        network.train,
        lambda: network.requires_grad_(False),
        lambda: network.second.weight.detach().zero_(),
        lambda: setattr(network.head.bias, "grad", torch.ones(2)),
    ):
        change()
        assert not looks_for(network)


def replace_a_module(network: Stages) -> None:
    network.second = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.AdaptiveAvgPool2d(1))


def add_a_module(network: Stages) -> None:
    network.first.append(nn.Conv2d(2, 2, 1))


def remove_a_module(network: Stages) -> None:
    del network.first[1]


def rename_a_module(network: Stages) -> None:
    network._modules = {f"{name}_stage": child for name, child in network._modules.items()}


def make_a_module_another(network: Stages) -> None:
    class Permuted(nn.Conv2d):
        """The name says that what it returns is no map."""

    network.second.__class__ = Permuted


def replace_forward(network: Stages) -> None:
    network.second.forward = lambda maps: maps.mean((2, 3), keepdim=True).repeat(1, 2, 1, 1)[:, :3]  # type: ignore[method-assign]


def hook_a_module(network: Stages) -> None:
    network.second.register_forward_hook(lambda module, args, output: output.mean((2, 3), keepdim=True))


def change_an_attribute(network: Stages) -> None:
    network.depth = 1


def narrow_a_weight(network: Stages) -> None:
    # Two maps of two classes, after the last weights, are the answer and no features.
    network.second.weight = nn.Parameter(torch.zeros(2, 2, 3, 3))
    network.second.bias = nn.Parameter(torch.zeros(2))
    network.head = nn.Identity()  # type: ignore[assignment]
    network.forward = lambda images: network.second(network.first(images)).mean((2, 3))  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "change",
    [
        replace_a_module,
        rename_a_module,
        make_a_module_another,
        replace_forward,
        hook_a_module,
        change_an_attribute,
        narrow_a_weight,
    ],
)
def test_a_changed_network_gets_an_answer_of_its_own(change: Callable[[Stages], None]) -> None:
    network = Stages()
    assert find_target_layer(network, SHAPE) == LAST
    change(network)
    answer = find_target_layer(network, SHAPE)
    assert answer != LAST
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(target_layers, "_known", {})
        assert find_target_layer(network, SHAPE) == answer


@pytest.mark.parametrize(
    "change",
    [
        add_a_module,
        remove_a_module,
        lambda network: setattr(network.first[0], "dilation", (2, 2)),
        lambda network: network.options["pools"].append(2),
        lambda network: setattr(network, "activation", partial(F.gelu, approximate="none")),
        lambda network: setattr(network, "activation", F.relu),
        lambda network: setattr(network, "activation", torch.sigmoid),
        lambda network: network.double(),
        lambda network: network.register_buffer("counts", torch.zeros(1)),
        lambda network: setattr(network.second, "bias", None),
        lambda network: setattr(
            network, "_modules", dict(zip(("second", "first", "head"), network.children(), strict=True))
        ),
        lambda network: network.register_forward_pre_hook(lambda module, args: None),
    ],
)
def test_after_any_other_change_it_is_looked_for_again(change: Callable[[Stages], object]) -> None:
    network = Stages()
    find_target_layer(network, SHAPE)
    change(network)
    assert looks_for(network)


def chain() -> nn.Sequential:
    convolutions = [nn.Conv2d(1, 1, 3, padding=1) for _ in range(3)]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))


def test_a_module_that_another_one_takes_the_place_of_is_noticed() -> None:
    network = chain()
    network[2] = network[1]
    assert find_target_layer(network, SHAPE).name == "0"
    network[1] = network[0]
    assert find_target_layer(network, SHAPE).name == "2"


def test_a_new_module_of_the_same_kind_is_looked_at() -> None:
    network = Stages()
    find_target_layer(network, SHAPE)
    network.second = nn.Conv2d(2, 3, 3, padding=1)
    assert looks_for(network)


def test_modules_that_exchange_their_classes_are_noticed() -> None:
    class Permuted(nn.Conv2d):
        pass

    network = chain()
    network[1].__class__ = Permuted
    assert find_target_layer(network, SHAPE).name == "2"
    network[1].__class__, network[2].__class__ = nn.Conv2d, Permuted
    assert find_target_layer(network, SHAPE).name == "1"


def test_code_that_a_class_was_given_later_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Stages()
    assert find_target_layer(network, SHAPE) == LAST
    monkeypatch.setattr(Stages, "forward", lambda self, images: self.first(images).mean((2, 3)))
    assert find_target_layer(network, SHAPE).name == "first"
    monkeypatch.undo()
    assert find_target_layer(network, SHAPE) == LAST


class AsDeepAs(Stages):
    """A network that takes its depth from somewhere else than its attributes."""

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images)
        if self.deep() > 1:
            maps = self.second(maps)
        return self.head(F.pad(maps.mean((2, 3)), (0, 3 - maps.shape[1])))

    def deep(self) -> int:
        raise NotImplementedError


def by_class_attribute() -> tuple[nn.Module, Callable[[], None]]:
    class Own(AsDeepAs):
        own_depth = 2

        def deep(self) -> int:
            return self.own_depth

    return Own(), lambda: setattr(Own, "own_depth", 1)


def by_property() -> tuple[nn.Module, Callable[[], None]]:
    class Own(AsDeepAs):
        own_depth = property(lambda self: 2)

        def deep(self) -> int:
            return self.own_depth

    return Own(), lambda: setattr(Own, "own_depth", property(lambda self: 1))


def by_static_method() -> tuple[nn.Module, Callable[[], None]]:
    class Own(AsDeepAs):
        deep = staticmethod(lambda: 2)  # type: ignore[assignment]

    return Own(), lambda: setattr(Own, "deep", staticmethod(lambda: 1))


def by_class_method() -> tuple[nn.Module, Callable[[], None]]:
    class Own(AsDeepAs):
        deep = classmethod(lambda cls: 2)  # type: ignore[assignment]

    return Own(), lambda: setattr(Own, "deep", classmethod(lambda cls: 1))


def by_variable_of_the_function_around() -> tuple[nn.Module, Callable[[], None]]:
    depth = 2

    class Own(AsDeepAs):
        def deep(self) -> int:
            return depth

    def change() -> None:
        nonlocal depth
        depth = 1

    return Own(), change


def by_class_of_settings() -> tuple[nn.Module, Callable[[], None]]:
    class Settings:
        depth = 2

    class Own(AsDeepAs):
        def __init__(self) -> None:
            super().__init__()
            self.settings: Any = Settings

        def deep(self) -> int:
            return self.settings.depth

    return Own(), lambda: setattr(Settings, "depth", 1)


def by_code_that_is_loaded_again() -> tuple[nn.Module, Callable[[], None]]:
    class Own(AsDeepAs):
        def deep(self) -> int:
            return 2

    def deep(self: Own) -> int:
        return 1

    return Own(), lambda: setattr(Own.deep, "__code__", deep.__code__)


def by_default_that_is_loaded_again() -> tuple[nn.Module, Callable[[], None]]:
    class Own(AsDeepAs):
        def deep(self, depth: int = 2) -> int:
            return depth

    return Own(), lambda: setattr(Own.deep, "__defaults__", (1,))


def under_no_grad() -> tuple[nn.Module, Callable[[], None]]:
    class Own(AsDeepAs):
        @torch.no_grad()
        def deep(self) -> int:
            return DEPTH

    return Own(), lambda: globals().update(DEPTH=1)


def by_global_variable() -> tuple[nn.Module, Callable[[], None]]:
    class Own(AsDeepAs):
        def deep(self) -> int:
            return max(depth for depth in (DEPTH, 0))

    return Own(), lambda: globals().update(DEPTH=1)


def by_global_dictionary() -> tuple[nn.Module, Callable[[], None]]:
    class Own(AsDeepAs):
        def deep(self) -> int:
            return [each for each in (0,) for each in OPTIONS["depths"]][-1]

    return Own(), lambda: OPTIONS["depths"].append(1)


@pytest.mark.parametrize(
    "make",
    [
        by_class_attribute,
        by_property,
        by_static_method,
        by_class_method,
        by_variable_of_the_function_around,
        by_class_of_settings,
        by_code_that_is_loaded_again,
        by_default_that_is_loaded_again,
        under_no_grad,
        by_global_variable,
        by_global_dictionary,
    ],
)
def test_what_a_network_reads_outside_of_itself_is_noticed(
    make: Callable[[], tuple[nn.Module, Callable[[], None]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "DEPTH", 2)
    monkeypatch.setitem(OPTIONS, "depths", [2])
    network, change = make()
    assert find_target_layer(network, SHAPE) == LAST
    assert not looks_for(network)
    change()
    assert find_target_layer(network, SHAPE).name == "first"


def test_a_variable_that_has_no_value_yet_is_no_obstacle() -> None:
    class Own(Stages):
        def train(self, mode: bool = True) -> Own:
            return super().train(mode if self.depth else later)

    network = Own()
    assert looks_for(network)
    later = True
    assert find_target_layer(network, SHAPE) == LAST


def test_a_network_that_compares_itself_in_its_own_way_is_no_obstacle() -> None:
    class Own(Stages):
        __hash__ = nn.Module.__hash__

        def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
            return torch.zeros(3)

    network = Own()
    find_target_layer(network, SHAPE)
    assert not looks_for(network)


def test_attributes_that_hold_themselves_are_no_obstacle() -> None:
    network = Stages()
    network.options["all"] = network.options  # type: ignore[assignment]
    assert looks_for(network)
    assert find_target_layer(network, SHAPE) == LAST


def test_each_size_and_each_name_is_a_question_of_its_own() -> None:
    network = Stages()
    assert find_target_layer(network, SHAPE) == LAST
    assert looks_for(network, (1, 9, 9))
    with pytest.raises(NetworkError):
        find_target_layer(network, (3, 8, 8))
    assert find_target_layers(network, SHAPE, ["first", None]) == (TargetLayer("first", "nchw"), LAST)
    with pytest.raises(NetworkError, match="no layer 'third'"):
        find_target_layer(network, SHAPE, "third")
    assert not looks_for(network)
    for side in range(4, 5 + target_layers._MOST_KNOWN):
        find_target_layer(network, (1, side, side))
    assert len(target_layers._known[network][1]) <= target_layers._MOST_KNOWN


def test_hooks_for_all_modules_are_noticed() -> None:
    network = Stages()
    find_target_layer(network, SHAPE)
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, output: None)
    try:
        assert looks_for(network)
    finally:
        handle.remove()
    assert not looks_for(network)


def test_what_may_change_unseen_is_never_remembered() -> None:
    network = Stages()
    network.settings = SimpleNamespace(depth=2)  # type: ignore[assignment]
    assert looks_for(network)
    assert looks_for(network)


def test_a_network_whose_way_depends_on_values_is_never_remembered() -> None:
    class Branching(Stages):
        def forward(self, images: Tensor) -> Tensor:
            maps = self.first(images)
            return self.head(self.second(maps).mean((2, 3))) if maps.sum().item() > 0 else maps.mean((2, 3))

    network = Branching()
    for bias, expected in ((1.0, "second"), (-1.0, "first")):
        nn.init.constant_(network.first[0].bias, bias)
        assert find_target_layer(network, SHAPE).name == expected


def test_the_network_is_not_kept_alive() -> None:
    holder: list[nn.Module] = []

    class Own(Stages):
        def forward(self, images: Tensor, networks: list[nn.Module] = holder) -> Tensor:
            return super().forward(images)

    network = Own()
    # A class and a function that lead back to it.
    holder.append(network)
    network.activation = lambda maps, network=network: F.relu(maps)
    find_target_layer(network, SHAPE)
    assert not looks_for(network)
    gone = [weakref.ref(each) for each in (network, network.first, network.head.weight)]
    del network, holder, Own
    gc.collect()
    assert [each() for each in gone] == [None] * len(gone)


def test_copies_and_pickles_carry_nothing_of_it() -> None:
    network = Stages()
    before = pickle.dumps(network)
    find_target_layer(network, SHAPE)
    assert pickle.dumps(network) == before
    for twin in (copy.deepcopy(network), pickle.loads(before)):
        twin.depth = 1
        assert find_target_layer(twin, SHAPE).name == "first"
    assert not looks_for(network)


def test_threads_that_ask_and_change_get_each_their_own_answer() -> None:
    networks = [Stages() for _ in range(4)]

    def ask(number: int) -> list[str]:
        network = networks[number % 4]
        found = [find_target_layer(network, SHAPE).name for _ in range(5)]
        alone = Stages()
        for depth in (1, 2, 1):
            alone.depth = depth
            found.append(find_target_layer(alone, SHAPE).name)
        return found

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(ask, range(16)):
            assert found == ["second"] * 5 + ["first", "second", "first"]
