"""Average drop and increase in confidence: what is left of the probability when only the map's pixels are shown."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cutaway.inspect.attribution.baselines import Baseline, BaselineKind, make_baseline
from cutaway.inspect.attribution.subject import AT_A_TIME, ClassIndex, prepared
from cutaway.inspect.faithfulness.ordering import fitted_maps
from cutaway.preprocessing import Preprocessing


@dataclass(frozen=True)
class Shown:
    """Each picture's class with the whole picture and with what its map lets through.

    Attributes:
        whole: float [N], the probability with the whole picture.
        masked: float [N], with the masked one.
    """

    whole: Tensor
    masked: Tensor

    @property
    def drop(self) -> Tensor:
        """The share of the probability that is lost, 0 where it rises: float [N]. Small for a map that shows enough."""
        return ((self.whole - self.masked) / self.whole.clamp(min=1e-12)).clamp(min=0)

    @property
    def increased(self) -> Tensor:
        """Whether the network is more certain with the rest of the picture gone: bool [N]."""
        return self.masked > self.whole


def drop_and_increase(
    network: nn.Module,
    inputs: Tensor,
    heatmaps: Tensor,
    class_index: ClassIndex = -1,
    *,
    baseline: BaselineKind | Tensor | Baseline = "mean",
    preprocessing: Preprocessing | None = None,
    at_a_time: int = AT_A_TIME,
) -> Shown:
    """Average drop and increase (Chattopadhay et al., arXiv:1710.11063, section 5.1).

    Each picture is mixed with the baseline by its map, whose negative values count as 0 and whose strongest as 1.
    A map that is strong everywhere loses nothing, so these two alone make no map a good one.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        heatmaps: float [N, h, w], higher where more speaks for the class.
        class_index: The class that they explain, one for all pictures or one for each; -1 is a picture's top class.
        baseline: What stands where the map is 0, as `make_baseline` takes it.
        preprocessing: Of the pictures, for a black or white baseline.
        at_a_time: The most pictures that go through the network together.

    Raises:
        InspectionError: The maps don't fit the pictures, or there is no such class.
    """
    with prepared(
        network, inputs, class_index, purpose="Average drop", gradients=False, at_a_time=at_a_time
    ) as subject:
        nothing = make_baseline(subject.inputs, baseline, preprocessing).values
        positive = fitted_maps(heatmaps, subject.inputs).to(subject.inputs).clamp(min=0)
        shares = (positive / positive.amax((1, 2), keepdim=True).clamp(min=1e-12))[:, None]
        seen = nothing + shares * (subject.inputs - nothing)
        logits = torch.cat([subject.logits_at(some) for some in torch.split(seen, subject.at_a_time)])
        whole, masked = (
            found.float().softmax(1).gather(1, subject.classes[:, None])[:, 0] for found in (subject.logits, logits)
        )
        return Shown(whole, masked)
