"""Measuring several ways in rounds, one after the other, so that a machine that is busy is busy with all of them."""

import contextlib
import importlib
import io
import statistics
import time
from collections.abc import Callable
from functools import partial
from types import ModuleType

Figures = dict[str, list[float]]


def timed(ways: dict[str, Callable[[], object]]) -> dict[str, Callable[[], float]]:
    """The same ways, each giving the seconds that it took."""

    def seconds(way: Callable[[], object]) -> float:
        began = time.perf_counter()
        way()
        return time.perf_counter() - began

    return {name: partial(seconds, way) for name, way in ways.items()}


def measured(ways: dict[str, Callable[[], float]], rounds: int, *, warm_up: bool = True) -> Figures:
    """Each way's figure in each round, after one round that does not count; each round begins with another way."""
    figures: Figures = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + warm_up):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            figure = ways[name]()
            if number >= warm_up:
                figures[name].append(figure)
    return figures


def tell_all(figures: Figures, scale: float, unit: str) -> None:
    """Each way's median."""
    for name, values in figures.items():
        print(f"{name:26} {scale * statistics.median(values):8.1f} {unit}   ({spread(values, scale)})")


def tell_ratio(
    name: str, other: str, figures: Figures, *, at_most: float | None = None, at_least: float | None = None
) -> None:
    """The median of the ratios of each round, and whether it meets its goal where it has one."""
    ratios = [mine / theirs for mine, theirs in zip(figures[name], figures[other], strict=True)]
    ratio = statistics.median(ratios)
    goal = goal_told(ratio, at_most=at_most, at_least=at_least)
    print(f"{name} / {other}: {ratio:.3f}   ({spread(ratios)})   {goal}")


def goal_told(figure: float, *, at_most: float | None = None, at_least: float | None = None) -> str:
    """Whether a figure meets its goal; nothing where it has none."""
    if at_most is not None:
        return f"goal {at_most} or less: {'met' if figure <= at_most else 'MISSED'}"
    if at_least is not None:
        return f"goal {at_least} or more: {'met' if figure >= at_least else 'MISSED'}"
    return ""


def spread(values: list[float], scale: float = 1.0) -> str:
    """The least and the most."""
    return f"{scale * min(values):.3g} to {scale * max(values):.3g}"


class Peers:
    """Other tools, each measured where it can be imported."""

    def __init__(self) -> None:
        self._missing: dict[str, None] = {}

    def found(self, module: str, name: str) -> ModuleType | None:
        """The module; None where it cannot be imported, which `tell_missing` says."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(ImportError):
            return importlib.import_module(module)
        self._missing[name] = None
        return None

    def tell_missing(self) -> None:
        """Says what was left out."""
        for name in self._missing:
            print(f"\n{name} cannot be imported here, and was left out")
