"""Numbers and names as people read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

DEVICES = {"cpu": "the CPU", "cuda": "the GPU"}


def percent(probability: float) -> str:
    """A probability that is not 0 never reads 0%, and one that is not 1 never reads 100%."""
    if 0 < probability < 0.001:
        return "less than 0.1%"
    if 0.999 < probability < 1:
        return "more than 99.9%"
    return f"{probability:.1%}"


def class_name(label: str) -> str:
    """A class's name as HTML: escaped, and in its own direction, so that an Arabic one moves no figure beside it."""
    return f"<bdi>{escape(label)}</bdi>"


def counted(number: int, one: str, many: str) -> str:
    """`1 picture`, `2 pictures`."""
    return f"{number} {one if number == 1 else many}"


def duration(milliseconds: float) -> str:
    """A time that took milliseconds or seconds."""
    if milliseconds >= 10_000:
        return f"{milliseconds / 1000:.0f} s"
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def unique_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Class names, told apart by their number where two are the same, since Gradio's label is keyed by name."""
    counts = Counter(classes)
    return tuple(name if counts[name] == 1 else f"{name} ({index})" for index, name in enumerate(classes))
