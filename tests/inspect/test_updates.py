from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from cutaway.checkpoints.optimizer_state import named_state
from cutaway.errors import InspectionError
from cutaway.inspect.histogram_findings import findings, update_findings
from cutaway.inspect.histograms import bias_histograms, tensor_histogram
from cutaway.inspect.updates import UpdateRatio, last_step_ratios, update_ratios


def test_a_change_between_two_moments() -> None:
    before = {"a": torch.tensor([3.0, 4.0]), "b": torch.zeros(2), "c": torch.ones(1), "gone": torch.ones(1)}
    after = {"a": torch.tensor([3.0, 4.5]), "b": torch.ones(2), "c": torch.ones(1), "new": torch.ones(1)}
    a, b, c = update_ratios(before, after, steps=5)
    assert (a.name, a.weight_norm, a.update_norm, a.ratio, a.steps) == ("a", 5, 0.5, 0.1, 5)
    assert (b.ratio, c.ratio) == (math.inf, 0)


OPTIMIZERS: list[tuple[str, Any, dict[str, Any]]] = [
    ("adam", torch.optim.Adam, {"weight_decay": 0.1}),
    ("adamw", torch.optim.AdamW, {"weight_decay": 0.1}),
    ("adamw", torch.optim.AdamW, {"fused": True}),
    ("adamax", torch.optim.Adamax, {}),
    ("radam", torch.optim.RAdam, {"weight_decay": 0.1}),
    ("sgd", torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    ("rmsprop", torch.optim.RMSprop, {"momentum": 0.9}),
]


@pytest.mark.parametrize(("name", "made", "options"), OPTIMIZERS)
@pytest.mark.parametrize("steps", [1, 4, 12])
def test_the_last_step_is_what_it_was(name: str, made: Any, options: dict[str, Any], steps: int) -> None:
    torch.manual_seed(0)
    network = nn.Linear(4, 3).double()
    optimizer = made(network.parameters(), lr=0.05, **options)
    for _ in range(steps):
        before = {key: value.clone() for key, value in network.state_dict().items()}
        optimizer.zero_grad()
        network(torch.randn(5, 4, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
    state, groups = named_state(network, optimizer)
    found = last_step_ratios(name, network.state_dict(), state, groups)
    wanted = update_ratios(before, network.state_dict(), steps=1)
    assert [one.name for one in found] == ["weight", "bias"]
    for one, other in zip(found, wanted, strict=True):
        assert (one.ratio, one.weight_norm) == pytest.approx((other.ratio, other.weight_norm), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("sgd", {"momentum": 0, "nesterov": False}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        ("rmsprop", {"momentum": 0}),
        ("nadam", {}),
        ("adadelta", {}),
        ("adam", {"amsgrad": True}),
    ],
)
def test_steps_that_the_state_does_not_tell_are_refused(name: str, group: dict[str, Any]) -> None:
    with pytest.raises(InspectionError, match=f"last step of {name}"):
        last_step_ratios(name, {}, {}, [group | {"params": []}])


def test_oddities_in_words() -> None:
    values = torch.linspace(-1, 1, 1000)
    values[:3] = math.nan
    values[3] = math.inf
    values[4] = -50.0
    broken = tensor_histogram("conv1.weight", values)
    assert findings([broken]) == (
        "conv1.weight: 3 of 1,000 values are NaN.",
        "conv1.weight: 1 of 1,000 values is infinite.",
        "conv1.weight: 1 value lies more than 6 standard deviations from the mean, the farthest 29.7.",
    )
    sparse = torch.tensor([0.0, 0.0, 0.0, 1.0])
    assert findings([tensor_histogram("a", sparse)]) == ("a: 75.0% zeros.",)
    # Behind a ReLU they are as it should be, unless nothing else is there.
    assert findings([tensor_histogram("a", sparse.abs())], are_activations=True) == ()
    assert findings([tensor_histogram("a", -sparse.abs())], are_activations=True) == ("a: 75.0% zeros.",)
    assert findings([tensor_histogram("a", torch.zeros(3))], are_activations=True) == ("a: every value is 0.",)
    assert findings([tensor_histogram("a", torch.zeros(3))]) == ("a: every value is 0.",)
    # The largest of ten thousand that fall off exponentially lies about ten standard deviations out.
    tail = -torch.linspace(1e-4, 1, 10_000).log()
    assert findings([tensor_histogram("a", tail)])
    assert findings([tensor_histogram("a", tail)], are_activations=True) == ()
    assert "47" in findings([tensor_histogram("a", torch.tensor([0.0] * 2209 + [9.0]))], are_activations=True)[0]
    assert findings([tensor_histogram("a", torch.linspace(-1, 1, 50))]) == ()


def test_odd_updates_in_words() -> None:
    sizes = {"still": 0.0, "slow": 1e-6, "usual": 1e-3, "fast": 0.5, "broken": math.nan}
    ratios = [UpdateRatio(name, 1.0, size, 1) for name, size in sizes.items()]
    found = update_findings([*ratios, UpdateRatio("fresh", 0.0, 1.0, 1), UpdateRatio("many", 1.0, 0.5, 100)])
    assert found == (
        "still does not change.",
        "slow hardly changes: 1.0e-06 of its size in a step.",
        "fast changes by 0.5 of its size in a step.",
        "broken: the change is not a number.",
        "fresh begins at zero, so its change has no ratio.",
    )


def test_biases_are_what_weights_leave_out() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert [one.name for one in bias_histograms(network)] == ["0.bias", "1.weight", "1.bias"]
