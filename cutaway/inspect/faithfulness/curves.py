"""Deletion and insertion: how the probability falls as the strongest pixels go, and rises as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.inspect.attribution.baselines import Baseline, BaselineKind, make_baseline
from cutaway.inspect.attribution.subject import AT_A_TIME, ClassIndex, Subject, prepared
from cutaway.inspect.faithfulness.ordering import fitted_maps, pixel_ranks
from cutaway.preprocessing import Preprocessing

STEPS = 28


@dataclass(frozen=True)
class Curve:
    """The probability of each picture's class while its pixels are exchanged, the strongest of the map first.

    Attributes:
        kind: `deletion` goes from the picture to the baseline, `insertion` from the baseline to the picture.
        shares: float [S + 1], the share of pixels exchanged, from 0 to 1.
        probabilities: float [N, S + 1].
        baseline: What stands for nothing, in words.
    """

    kind: Literal["deletion", "insertion"]
    shares: Tensor
    probabilities: Tensor
    baseline: str

    @property
    def area(self) -> Tensor:
        """The area under each picture's curve, float [N]; of a deletion it should be small, of an insertion large."""
        return torch.trapezoid(self.probabilities, self.shares, dim=1)


def deletion(
    network: nn.Module,
    inputs: Tensor,
    heatmaps: Tensor,
    class_index: ClassIndex = -1,
    *,
    baseline: BaselineKind | Tensor | Baseline = "mean",
    preprocessing: Preprocessing | None = None,
    steps: int = STEPS,
    seed: int = 0,
    at_a_time: int = AT_A_TIME,
) -> Curve:
    """The deletion curve (Petsiuk et al., arXiv:1806.07421, section 4.1).

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        heatmaps: float [N, h, w], higher where more speaks for the class.
        class_index: The class that they explain, one for all pictures or one for each; -1 is a picture's top class.
        baseline: What pixels are exchanged for, as `make_baseline` takes it.
        preprocessing: Of the pictures, for a black or white baseline.
        steps: In how many equal parts the pixels go.
        seed: Of the order among pixels of the same strength.
        at_a_time: The most pictures that go through the network together.

    Raises:
        InspectionError: The maps don't fit the pictures, or there is no such class.
    """
    with prepared(network, inputs, class_index, purpose="Deletion", gradients=False, at_a_time=at_a_time) as subject:
        nothing = make_baseline(subject.inputs, baseline, preprocessing)
        return _exchanged("deletion", subject, heatmaps, subject.inputs, nothing.values, nothing.name, steps, seed)


def insertion(
    network: nn.Module,
    inputs: Tensor,
    heatmaps: Tensor,
    class_index: ClassIndex = -1,
    *,
    baseline: BaselineKind | Tensor | Baseline = "blur",
    preprocessing: Preprocessing | None = None,
    steps: int = STEPS,
    seed: int = 0,
    at_a_time: int = AT_A_TIME,
) -> Curve:
    """The insertion curve: as `deletion`, from the baseline, by default the picture blurred, to the picture."""
    with prepared(network, inputs, class_index, purpose="Insertion", gradients=False, at_a_time=at_a_time) as subject:
        nothing = make_baseline(subject.inputs, baseline, preprocessing)
        return _exchanged("insertion", subject, heatmaps, nothing.values, subject.inputs, nothing.name, steps, seed)


def _exchanged(
    kind: Literal["deletion", "insertion"],
    subject: Subject,
    heatmaps: Tensor,
    before: Tensor,
    after: Tensor,
    name: str,
    steps: int,
    seed: int,
) -> Curve:
    ranks = pixel_ranks(fitted_maps(heatmaps, subject.inputs), seed)
    num_pixels = ranks.shape[1] * ranks.shape[2]
    if steps < 1:
        raise InspectionError(f"A curve has at least one step, not {steps}.")
    counts = torch.linspace(0, num_pixels, min(steps, num_pixels) + 1).round().to(ranks)
    rows = []
    for picture, nothing, places, chosen in zip(before, after, ranks, subject.classes, strict=True):
        parts = []
        for some in torch.split(counts, subject.at_a_time):
            exchanged = places[None, None] < some[:, None, None, None]
            logits = subject.logits_at(torch.where(exchanged, nothing[None], picture[None]))
            parts.append(logits.float().softmax(1)[:, chosen])
        rows.append(torch.cat(parts))
    return Curve(kind, counts.float() / num_pixels, torch.stack(rows), name)
