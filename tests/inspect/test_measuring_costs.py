"""That costs are counted as the methods run, and that the dearest drops out first."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cutaway.inspect.faithfulness import METRICS, compare_methods, explainer, randomisation_check
from cutaway.inspect.report.measuring_costs import DEAREST_FIRST, affordable, to_explain, to_measure, to_randomise

SIZE = (16, 20)
CAMS = ("grad-cam", "hirescam", "layercam")
METHODS = (
    *CAMS, "saliency", "input-x-gradient", "guided-backprop", "integrated-gradients", "deep-lift", "occlusion",
)  # fmt: skip


class Counting(nn.Module):
    """Counts the pictures that go through, thrice where a pass back may follow."""

    passes = 0

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(960, 4))

    def forward(self, inputs: Tensor) -> Tensor:
        # Class activation maps ask for gradients from the target layer on.
        Counting.passes += len(inputs) * (3 if inputs.requires_grad else 1)
        return self.inside(inputs)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    network = Counting().eval()
    with torch.no_grad():
        # Whether pictures mix is asked once, and is remembered.
        explainer("saliency")(network, pictures(), torch.zeros(3, dtype=torch.int64))
    Counting.passes = 0
    return network


def pictures() -> Tensor:
    return torch.randn(3, 1, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("method", METHODS)
def test_what_explaining_takes(network, method) -> None:
    explainer(method)(network, pictures(), torch.zeros(3, dtype=torch.int64))
    expected = 3 * to_explain(method, SIZE)
    if method in CAMS:
        assert 0 < Counting.passes <= expected
    else:
        assert Counting.passes == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric != "increase"])
def test_what_measuring_takes(network, metric) -> None:
    methods = ("saliency", "occlusion")
    explaining = {name: partial(explainer(name), network) for name in methods}
    compare_methods(network, pictures(), explaining, 1, metrics=[metric])
    assert Counting.passes == pytest.approx(3 * to_measure(methods, [metric], SIZE), rel=0.02)


def test_what_randomising_takes(network) -> None:
    randomisation_check(network, pictures(), explainer("saliency"), 1, steps=12)
    # This network has two layers with weights, and not the twelve steps that are reckoned with.
    assert 0 < Counting.passes <= 3 * to_randomise(["saliency"], SIZE)


def test_the_dearest_drops_out_first_and_pictures_last() -> None:
    everything = to_measure(METHODS, tuple(METRICS), SIZE)
    plan = affordable(METHODS, SIZE, everything * 8 * 3, 8)
    assert (plan.methods, plan.metrics, plan.num_pictures, plan.left_out) == (METHODS, tuple(METRICS), 8, ())
    left_out = []
    for share in np.linspace(3, 0.05, 60):
        passes = everything * 8 * share
        plan = affordable(METHODS, SIZE, passes, 8)
        left_out.append(plan.left_out)
        needed = to_measure(plan.methods, plan.metrics, SIZE)
        assert plan.left_out == DEAREST_FIRST[: len(plan.left_out)]
        assert needed * 8 <= passes / 3 or plan.left_out == DEAREST_FIRST
        assert plan.num_pictures == min(8, int(passes / needed))
        assert {*plan.methods, *plan.metrics, *plan.left_out} == {*METHODS, *METRICS}
    assert set(left_out) >= {DEAREST_FIRST[:number] for number in (0, 1, len(DEAREST_FIRST))}
    assert plan.num_pictures < 8


def test_the_only_method_stays() -> None:
    assert affordable(["occlusion"], SIZE, 10.0, 8).methods == ("occlusion",)
