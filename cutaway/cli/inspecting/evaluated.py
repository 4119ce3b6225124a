"""What `cutaway evaluate` found out, for those that draw, write and print it."""

from __future__ import annotations

from dataclasses import dataclass

from cutaway.evaluation import Evaluation
from cutaway.inspect.assessment import Assessment
from cutaway.inspect.comparison import Comparison
from cutaway.preprocessing import Preprocessing


@dataclass(frozen=True)
class Against:
    """The other bundle: its answers over the same samples.

    Attributes:
        reference: Where it is.
        answers: Its answers, with its classes in our order.
        comparison: It first, the evaluated one second.
        learned: How many of the samples stand in its training split; None where that cannot be told.
    """

    reference: str
    answers: Evaluation
    comparison: Comparison
    learned: int | None


@dataclass(frozen=True)
class Evaluated:
    """What was evaluated.

    Attributes:
        reference: The bundle.
        data: The data set's name.
        preprocessing: The bundle's.
        assessment: What its answers come to.
        against: The other bundle; None where there is none.
    """

    reference: str
    data: str
    preprocessing: Preprocessing
    assessment: Assessment
    against: Against | None = None
