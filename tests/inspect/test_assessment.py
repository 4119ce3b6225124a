from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.datasets import Split
from cutaway.errors import InspectionError
from cutaway.evaluation import evaluate
from cutaway.inspect.assessment import assess
from cutaway.preprocessing import Preprocessing

SPEC = Preprocessing(size=(8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def pictures(count: int = 60) -> Split:
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    hours = tuple(("day", "night")[index % 2] for index in range(count))
    return Split("test", np.arange(count) % 3, images, prepared=True, columns={"hour": hours})


def test_a_plain_module_is_judged_in_one_pass_and_left_as_it_was() -> None:
    model, split = network(), pictures()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    found = assess(model, split, SPEC, "abc", slice_by=["Hour"], mistakes=4, confusions=2)
    answers = evaluate(model, split, SPEC)
    assert torch.equal(found.answers.logits, answers.logits)
    assert found.metrics.accuracy == found.scores.accuracy == found.calibration.accuracy == answers.accuracy
    assert found.metrics.ece == pytest.approx(found.calibration.ece, abs=1e-6)
    assert [part.num_samples for part in found.slices[0].slices] == [30, 30]
    assert (len(found.mistakes), len(found.confusions)) == (4, 2)
    assert found.embedding is not None
    assert found.embedding.points.shape == (60, 2)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_network_without_a_last_layer_has_no_map_and_everything_else() -> None:
    class Brightness(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    found = assess(Brightness(), pictures(), SPEC, "abc")
    assert found.embedding is None
    assert all(mistake.truth_map is None for mistake in found.mistakes)
    assert assess(network(), pictures(), SPEC, "abc", embedding=None).features is None
    # Too few for a map, and no reason to refuse the rest.
    assert assess(network(), pictures(3), SPEC, "abc").embedding is None


def test_what_cannot_be_judged_is_an_error_in_words() -> None:
    with pytest.raises(InspectionError, match="'test' is empty"):
        assess(network(), pictures(0), SPEC, "abc")
    with pytest.raises(InspectionError, match="no column 'camera'") as caught:
        assess(network(), pictures(), SPEC, "abc", slice_by=["camera"])
    assert "hour" in caught.value.hint
    broken = network()
    with torch.no_grad():
        broken[5].bias[0] = torch.nan
    with pytest.raises(InspectionError, match="not finite"):
        assess(broken, pictures(), SPEC, "abc")
