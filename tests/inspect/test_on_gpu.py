"""That a network on a GPU is inspected as on the CPU: on a real one where there is one, and on a pretended one."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.datasets import Split
from cutaway.inspect import channel_activity, feature_maps, first_kernels, weight_histograms
from cutaway.inspect.histograms import bias_histograms
from cutaway.inspect.kernels import layer_kernels
from cutaway.inspect.passes import activation_histograms, loss_gradient_histograms
from cutaway.inspect.report import SECTIONS, Report, render_report, report_on, trust
from cutaway.preprocessing.spec import Preprocessing

PREPROCESSING = Preprocessing(size=(16, 16), color="grey", mean=(0.5,), std=(0.5,))
FAST = ["samples", "embedding", "layers", "kernels", "features", "weights"]
REAL = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(params=["pretended", pytest.param("real", marks=REAL)])
def gpu(request) -> torch.device:
    return torch.device("cuda", 0) if request.param == "real" else request.getfixturevalue("pretended_gpu")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(196, 4)
    )


def pictures() -> torch.Tensor:
    return torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_feature_maps(gpu) -> None:
    for there, here in zip(
        feature_maps(network().to(gpu), pictures()), feature_maps(network(), pictures()), strict=True
    ):
        torch.testing.assert_close(there.maps, here.maps)


def test_kernels(gpu) -> None:
    there = network().to(gpu)
    for found in (first_kernels(there), layer_kernels(there, "0")):
        assert found is not None
        assert torch.equal(found.weights, network()[0].weight.detach())
        assert found.norms.tolist() == pytest.approx(network()[0].weight.flatten(1).norm(dim=1).tolist())


def test_channels(gpu) -> None:
    batches = list(pictures().split(4))
    for there, here in zip(
        channel_activity(network().to(gpu), batches), channel_activity(network(), batches), strict=True
    ):
        assert (there.layer, there.dead, there.num_pictures) == (here.layer, here.dead, 6)
        torch.testing.assert_close(there.moments.mean, here.moments.mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(there.top_values, here.top_values)


def test_histograms(gpu) -> None:
    labels = torch.arange(6) % 4

    def found(net: nn.Module, device: torch.device) -> list[float]:
        batch, targets = pictures().to(device), labels.to(device)
        kinds = (
            weight_histograms(net),
            bias_histograms(net),
            activation_histograms(net, [batch]),
            loss_gradient_histograms(net, [(batch, targets)]),
        )
        return [number for some in kinds for one in some for number in (one.mean, one.std, one.smallest, one.largest)]

    assert found(network().to(gpu), gpu) == pytest.approx(found(network(), torch.device("cpu")), rel=1e-3, abs=1e-5)


def report(device: torch.device, sections: list[str]) -> Report:
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1), dtype=np.uint8)
    split = Split("test", np.arange(12) % 4, images)
    with torch.no_grad():
        logits = network().eval()(torch.from_numpy(PREPROCESSING.normalise(images)))
    answers = SimpleNamespace(logits=logits, labels=torch.from_numpy(split.labels))
    return report_on(
        network().to(device),
        PREPROCESSING,
        "abcd",
        split,
        answers,
        title="a report",
        right=3,
        wrong=2,
        sections=sections,
    )


@pytest.mark.parametrize(
    "sections", [FAST, pytest.param([key for key in SECTIONS if key not in FAST], marks=pytest.mark.slow)]
)
def test_the_report(gpu, sections, monkeypatch) -> None:
    monkeypatch.setattr(trust, "_BUDGET", 1.2e8)  # pretending takes long
    there, here = report(gpu, sections), report(torch.device("cpu"), sections)
    assert [section.key for section in there.sections] == [section.key for section in here.sections]
    if not torch.cuda.is_available():  # a real one rounds otherwise
        # What is kept for training differs by the kernels.
        words = [re.sub(r"[\d.]+ k?B", "", render_report(one)) for one in (there, here)]
        assert words[0] == words[1]
