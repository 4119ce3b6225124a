"""What it costs to explain pictures and to measure explanations, and what is left out where that is too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cutaway.inspect.attribution import METHODS as ATTRIBUTION_METHODS
from cutaway.inspect.attribution.occluding import usual_window
from cutaway.inspect.attribution.paths import STEPS as PATH_STEPS
from cutaway.inspect.faithfulness import METRICS, REFERENCE_MAPS
from cutaway.inspect.faithfulness.curves import STEPS as CURVE_STEPS
from cutaway.inspect.faithfulness.imputation import SHARES
from cutaway.inspect.faithfulness.randomisation import STEPS as RANDOMISATION_STEPS
from cutaway.inspect.faithfulness.stability import CHANGED_COPIES, NOISY_COPIES

DEAREST_FIRST = ("max-sensitivity", "infidelity", "occlusion", "deep-lift", "guided-backprop", "input-x-gradient")
"""Measures and methods in the order in which they are left out: those that a verdict needs least for what they cost."""

# In forward passes; on the way back every product takes two.
_THERE, _AND_BACK = 1, 3
_FOR_ALL = 3
# Each measure first asks the network for its answer to the picture as it is.
_MEASURING = {
    "deletion": _THERE + CURVE_STEPS + 1,
    "insertion": _THERE + CURVE_STEPS + 1,
    "road": _THERE + 2 * len(SHARES),
    "drop": _THERE + 1,
    "increase": 0,  # comes with the drop
    "infidelity": _THERE + NOISY_COPIES,
}


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        methods: Names of methods.
        metrics: Names of measures.
        num_pictures: On how many pictures that can be paid for.
        left_out: Names of methods and measures that cannot.
    """

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    num_pictures: int
    left_out: tuple[str, ...]


def to_explain(method: str, size: tuple[int, int]) -> int:
    """Forward passes that explaining a picture of `size`, height and width, takes; a pass back counts as two."""
    if method not in ATTRIBUTION_METHODS:
        return _AND_BACK  # a class activation map by gradients
    if method == "integrated-gradients":
        return 2 * _THERE + PATH_STEPS * _AND_BACK
    if method == "occlusion":
        window, stride = usual_window(*size)
        down, across = (-(-(side - window) // stride) + 1 for side in size)
        return 2 * _THERE + down * across
    return _THERE + (2 if method == "deep-lift" else 1) * _AND_BACK


def to_measure(methods: Sequence[str], metrics: Sequence[str], size: tuple[int, int]) -> int:
    """Forward passes that measuring these methods takes for each picture, beside maps that know nothing."""
    explaining = sum(to_explain(method, size) for method in methods)
    rows = len(methods) + len(REFERENCE_MAPS)
    total = _THERE + explaining + rows * sum(_MEASURING.get(metric, 0) for metric in metrics)
    if "max-sensitivity" in metrics:
        total += len(methods) * _THERE + (1 + CHANGED_COPIES) * explaining
    return total


def to_randomise(methods: Sequence[str], size: tuple[int, int]) -> int:
    """Forward passes that the check by randomisation takes for each picture."""
    return sum(2 * _THERE + (1 + RANDOMISATION_STEPS) * to_explain(method, size) for method in methods)


def affordable(methods: Sequence[str], size: tuple[int, int], passes: float, pictures: int) -> Plan:
    """What can be measured of pictures with so many forward passes.

    The dearest drop out one after the other, until a third of the passes pays for all of the pictures: a report should
    not take long for their sake, and a verdict of few pictures is worth less than one without them. What is left at
    last is measured on as many pictures as there can be.
    """
    kept, metrics, left_out = list(methods), list(METRICS), []
    for name in DEAREST_FIRST:
        if pictures * to_measure(kept, metrics, size) <= passes / _FOR_ALL:
            break
        if name in metrics:
            metrics.remove(name)
        elif name in kept and len(kept) > 1:
            kept.remove(name)
        else:
            continue
        left_out.append(name)
    number = int(passes / to_measure(kept, metrics, size))
    return Plan(tuple(kept), tuple(metrics), min(number, pictures), tuple(left_out))
