"""Mixup (arXiv:1710.09412) and CutMix (arXiv:1905.04899): pictures and labels of a batch mixed with one another."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.settings import TrainSettings


@dataclass(frozen=True)
class Mixing:
    """Mixes each sample with the one before it in its batch, whose order is drawn anew each epoch.

    One share for a batch, a function of (seed, step). With both methods on, each step draws one of them.

    Attributes:
        num_classes: Of the labels.
        seed: Of the run.
        mixup: Alpha of mixup's Beta distribution; 0 is off.
        cutmix: Alpha of CutMix's; 0 is off.
    """

    num_classes: int
    seed: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0

    @classmethod
    def of(cls, settings: TrainSettings, num_classes: int) -> Mixing:
        """What the settings ask for."""
        return cls(num_classes, settings.seed, settings.mixup, settings.cutmix)

    def __bool__(self) -> bool:
        """Whether anything is to be done."""
        return self.mixup > 0 or self.cutmix > 0

    def __call__(self, inputs: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Mixes a batch.

        Args:
            inputs: float [B, C, h, w].
            labels: int64 [B].
            step: Optimizer steps before this one.

        Returns:
            The mixed inputs, and how much of each class is in them: float32 [B, K]. What came in stays as it is; where
            nothing is to be done it comes out.
        """
        if not self:
            return inputs, labels
        words = hashlib.sha256(f"mix {self.seed} {step}".encode()).digest()
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(words, "big")))
        cuts = generator.random() < 0.5 if self.mixup and self.cutmix else bool(self.cutmix)
        if cuts:
            share = generator.beta(self.cutmix, self.cutmix)
            center = generator.random(), generator.random()
            inputs, share = cut(inputs, share, center)
        else:
            share = generator.beta(self.mixup, self.mixup)
            inputs = blend(inputs, share)
        return inputs, blend(F.one_hot(labels, self.num_classes).float(), share)


def blend(values: Tensor, share: float) -> Tensor:
    """`share` of each row and the rest of the row before it: float [B, ...] -> the same."""
    return values * share + values.roll(1, 0) * (1 - share)


def cut(inputs: Tensor, share: float, center: tuple[float, float]) -> tuple[Tensor, float]:
    """Pastes a rectangle of the picture before it into each picture.

    Args:
        inputs: float [B, C, h, w].
        share: Of the picture that should stay; the rectangle has the rest of its area, as far as it lies inside.
        center: Of the rectangle, down and across, as shares of the sides.

    Returns:
        The pictures, and the share that did stay.
    """
    height, width = inputs.shape[2:]
    half = 0.5 * math.sqrt(1 - share)
    (top, bottom), (left, right) = (
        (max(0, int(at * side) - int(half * side)), min(side, int(at * side) + int(half * side)))
        for at, side in zip(center, (height, width), strict=True)
    )
    mixed = inputs.clone()
    mixed[:, :, top:bottom, left:right] = torch.roll(inputs[:, :, top:bottom, left:right], 1, 0)
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)
