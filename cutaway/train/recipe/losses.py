"""The loss between scores and labels, hard or mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.datasets.balance import balanced_weights
from cutaway.errors import SettingsError
from cutaway.settings import TrainSettings

# Where a class has the probability 1 the slope of a focal loss of `gamma` below 1 is not finite.
_SMALLEST_MISS = 1e-7


@dataclass(frozen=True)
class Criterion:
    """A loss that is averaged over samples.

    Weights are 1 for a sample on average and not divided by again, or a batch's few samples of a small class would
    count as much as in any other batch. Hard labels and the same ones written as one-hot rows give the same loss.

    Attributes:
        kind: `cross-entropy`; `focal` (Lin et al., arXiv:1708.02002, equation 5, its alpha being `weights`); `mse`, the
            mean over classes of the squared difference between scores and one-hot targets; or `brier`, the sum over
            classes of the squared difference between probabilities and one-hot targets (Brier, 1950).
        label_smoothing: Share of each target that is spread evenly over all classes.
        gamma: Of `focal`: how little counts what is right already. 0 is cross-entropy.
        weights: float32 [K], how much a sample of each class counts; None where all count alike.
    """

    kind: Literal["cross-entropy", "focal", "mse", "brier"] = "cross-entropy"
    label_smoothing: float = 0.0
    gamma: float = 2.0
    weights: Tensor | None = None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            logits: [B, K], in any floating-point type; the loss is computed in float32 at least.
            targets: int64 [B], or float [B, K] whose rows add up to 1.
        """
        logits = logits if logits.dtype == torch.float64 else logits.float()
        if self.kind == "cross-entropy":
            smoothing = self.label_smoothing
            if self.weights is None:
                return F.cross_entropy(logits, targets, label_smoothing=smoothing)
            total = F.cross_entropy(logits, targets, self.weights, reduction="sum", label_smoothing=smoothing)
            return total / len(targets)
        if self.kind == "focal":
            return self._focal(logits, targets).mean()
        scores, soft = logits if self.kind == "mse" else logits.softmax(1), self._soft(logits, targets)
        squares = (scores - soft).square()
        losses = squares.mean(1) if self.kind == "mse" else squares.sum(1)
        if self.weights is None:
            return losses.mean()
        # Not as a matrix product, which autocast would round to half precision.
        counted = self.weights[targets] if targets.dim() == 1 else (targets * self.weights).sum(1)
        return (losses * counted).mean()

    def _focal(self, logits: Tensor, targets: Tensor) -> Tensor:
        """[B]: each sample's focal loss. As in cross-entropy, the weights are those of the target's classes."""
        if targets.dim() == 1 and not self.label_smoothing:
            surprise = F.cross_entropy(logits, targets, reduction="none")
            losses = _miss(-surprise) ** self.gamma * surprise
            return losses if self.weights is None else losses * self.weights[targets]
        log_probabilities, soft = logits.log_softmax(1), self._soft(logits, targets)
        counted = soft if self.weights is None else soft * self.weights
        return -(counted * _miss(log_probabilities) ** self.gamma * log_probabilities).sum(1)

    def _soft(self, logits: Tensor, targets: Tensor) -> Tensor:
        """[B, K]: the targets as shares, smoothed."""
        classes = logits.shape[1]
        soft = F.one_hot(targets, classes).to(logits.dtype) if targets.dim() == 1 else targets
        return soft * (1 - self.label_smoothing) + self.label_smoothing / classes if self.label_smoothing else soft


def make_criterion(settings: TrainSettings, counts: Sequence[int], device: torch.device) -> Criterion:
    """The loss that the settings name.

    Args:
        settings: The recipe.
        counts: Training samples of each class.
        device: Where it is computed.

    Raises:
        SettingsError: The weights are not one for each class, or none of them counts.
    """
    weights = list(settings.class_weights)
    if weights and settings.balance == "loss":
        raise SettingsError("--class-weights and --balance loss both weight the loss.", hint="Give one of them.")
    if weights and len(weights) != len(counts):
        raise SettingsError(
            f"There are {len(weights)} class weights for {len(counts)} classes.",
            hint="Give --class-weights one number for each class, in the order of their names, or --balance loss.",
        )
    if weights:
        drawn = [min(count, 1) for count in counts] if settings.balance == "sample" else counts
        weights = _one_on_average(weights, drawn)
    elif settings.balance == "loss":
        weights = balanced_weights(counts).tolist()
    return Criterion(
        kind=settings.loss,
        label_smoothing=settings.label_smoothing,
        gamma=settings.focal_gamma,
        weights=torch.tensor(weights, dtype=torch.float32, device=device) if weights else None,
    )


def _one_on_average(weights: Sequence[float], counts: Sequence[int]) -> list[float]:
    """Weights in the same proportions, with which a training sample counts 1 on average."""
    total = sum(weight * count for weight, count in zip(weights, counts, strict=True))
    if total <= 0:
        raise SettingsError("With these --class-weights no training picture counts.", hint="Give some above 0.")
    return [weight * sum(counts) / total for weight in weights]


def _miss(log_probabilities: Tensor) -> Tensor:
    """1 - p, exact near p = 1 too."""
    return (-torch.expm1(log_probabilities)).clamp(min=_SMALLEST_MISS)
