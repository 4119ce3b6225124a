"""Two networks over the same pictures: which answers flipped, and whether one is better by more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from cutaway.errors import InspectionError
from cutaway.inspect.classwise import Answers
from cutaway.inspect.intervals import LEVEL
from cutaway.settings.labels import distinct


@dataclass(frozen=True)
class Comparison:
    """A first network against a second one, over the same samples.

    Attributes:
        num_samples: Of both.
        num_both_right: Samples that both recognise.
        num_both_wrong: Samples that neither does.
        num_other_mistakes: Of these, those that the two take for different classes.
        broken: Samples that the first recognises and the second does not, its most confident mistakes first.
        mended: Samples that the second recognises and the first did not, its most confident answers first.
        difference: The second's accuracy less the first's.
        low: Lower end of the difference's interval of 95 % (Agresti and Min 2005).
        high: Upper end.
        p_value: Of McNemar's exact test: how often samples would flip this unevenly if both were equally good.
    """

    num_samples: int
    num_both_right: int
    num_both_wrong: int
    num_other_mistakes: int
    broken: tuple[int, ...]
    mended: tuple[int, ...]
    difference: float
    low: float
    high: float
    p_value: float

    @property
    def first_accuracy(self) -> float:
        """Share of samples that the first recognises."""
        return (self.num_both_right + len(self.broken)) / self.num_samples

    @property
    def second_accuracy(self) -> float:
        """Share of samples that the second recognises."""
        return (self.num_both_right + len(self.mended)) / self.num_samples

    @property
    def is_chance(self) -> bool:
        """Whether the difference may well be chance: at 5 %, the test does not tell the two apart."""
        return self.p_value >= 1 - LEVEL


def compare_answers(first: Answers, second: Answers) -> Comparison:
    """Compares two networks sample by sample.

    Of the samples that flipped, McNemar's test (1947) asks whether as many could have flipped in either direction; it
    is the exact, binomial form, which holds for few samples too. The interval of the difference takes each of the four
    counts half a sample larger.

    Args:
        first: Logits [N, K] and labels [N].
        second: The other's, over the same samples and classes in the same order; see `in_order_of`.

    Raises:
        InspectionError: The samples or the classes are not the same.
    """
    from scipy.stats import binomtest

    labels = first.labels.cpu()
    if first.logits.shape != second.logits.shape or not torch.equal(labels, second.labels.cpu()) or len(labels) == 0:
        raise InspectionError(
            f"Answers {list(first.logits.shape)} and {list(second.logits.shape)} are not of the same samples.",
            hint="Evaluate both networks on the same split.",
        )
    if not bool(first.logits.isfinite().all()) or not bool(second.logits.isfinite().all()):
        raise InspectionError(
            "The scores of one of the networks are not finite, so they name no class.",
            hint="Have its weights diverged in training?",
        )
    (before, _), (after, confidence) = _answers(first), _answers(second)
    was_right, is_right = before == labels, after == labels
    broken, mended = was_right & ~is_right, ~was_right & is_right
    total, num_broken, num_mended = len(labels), int(broken.sum()), int(mended.sum())
    flipped = num_broken + num_mended
    n = total + 2
    centre = (num_mended - num_broken) / n
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(((flipped + 1) / n - centre**2) / n)
    return Comparison(
        num_samples=total,
        num_both_right=int((was_right & is_right).sum()),
        num_both_wrong=int((~was_right & ~is_right).sum()),
        num_other_mistakes=int((~was_right & ~is_right & (before != after)).sum()),
        broken=_most_confident(broken, confidence),
        mended=_most_confident(mended, confidence),
        difference=(num_mended - num_broken) / total,
        low=max(-1.0, centre - reach),
        high=min(1.0, centre + reach),
        p_value=float(binomtest(num_mended, flipped, 0.5).pvalue) if flipped else 1.0,
    )


def in_order_of(logits: Tensor, theirs: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Logits with their columns in the order of other classes.

    Args:
        logits: Float [N, K].
        theirs: K names, in the order of the columns. Of equal ones, the first is the other's first, and so on.
        classes: The same names in the order wanted.

    Raises:
        InspectionError: The names are not the same.
    """
    if sorted(theirs) != sorted(classes):
        only = [name for name in dict.fromkeys((*classes, *theirs)) if classes.count(name) != theirs.count(name)]
        raise InspectionError(
            f"The two networks don't know the same classes: only one knows {', '.join(only[:5])}.",
            hint="Compare networks that were trained on the same classes.",
        )
    place = {name: index for index, name in enumerate(distinct(theirs))}
    return logits[:, [place[name] for name in distinct(classes)]]


def _answers(answers: Answers) -> tuple[Tensor, Tensor]:
    """Top classes and their probabilities: [N] each."""
    logits = answers.logits.detach().cpu()
    top = logits.argmax(1)
    return top, logits.softmax(1).gather(1, top[:, None])[:, 0]


def _most_confident(chosen: Tensor, confidence: Tensor) -> tuple[int, ...]:
    indices = chosen.nonzero()[:, 0]
    order = confidence[indices].argsort(descending=True, stable=True)
    return tuple(int(index) for index in indices[order])
