"""What an attribution method says of each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Reduction = Literal["sum", "largest-magnitude"]


@dataclass(frozen=True)
class Attribution:
    """How much each value of each picture speaks for a class, as it was computed.

    Attributes:
        method: Its name, as `attribute` takes it.
        attributions: float [N, C, H, W], signed and not scaled. Where the method shares out a score they are parts of
            the logit, elsewhere gradients of it.
        logits: float [N, K].
        class_index: int64 [N], the class that each speaks for.
        reduction: How `heatmap` joins the channels.
        baseline: What stands for "nothing", in words; None where the method compares with nothing.
        difference: float [N], the logit of the class less its logit at the baseline, for methods whose attributions
            should sum up to that; None for the others.
        alone: Why each picture went through the network by itself, in words that follow upon "since"; None where
            pictures don't mix, as usual.
    """

    method: str
    attributions: Tensor
    logits: Tensor
    class_index: Tensor
    reduction: Reduction
    baseline: str | None = None
    difference: Tensor | None = None
    alone: str | None = None

    @property
    def heatmap(self) -> Tensor:
        """One value a pixel, float [N, H, W].

        `sum` adds the channels, so that the sign stays: above 0 speaks for the class. `largest-magnitude` is the
        largest absolute value among the channels (Simonyan et al., arXiv:1312.6034, section 3.1).
        """
        return reduced(self.attributions, self.reduction)

    @property
    def gap(self) -> Tensor | None:
        """The sum of the attributions less `difference`, float [N]; 0 where the method kept its promise."""
        return None if self.difference is None else self.attributions.flatten(1).sum(1) - self.difference

    @property
    def probabilities(self) -> Tensor:
        """The probability of the class that each speaks for: float [N]."""
        return self.logits.softmax(1).gather(1, self.class_index[:, None])[:, 0]


def reduced(attributions: Tensor, reduction: Reduction) -> Tensor:
    """Joins the channels: [N, C, H, W] -> [N, H, W]."""
    return attributions.sum(1) if reduction == "sum" else attributions.abs().amax(1)
