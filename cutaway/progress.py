"""How long work reports its progress without knowing who is watching."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


class Track(Protocol):
    """Passes items through and shows progress; the command line gives one that draws bars."""

    def __call__(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yields the items in order, while it shows how many of `total` are done."""


@runtime_checkable
class Telling(Protocol):
    """Items that can say how the work goes, where a `Track` cares to ask."""

    def status(self) -> str:
        """How it goes, in a few words. It may be costly: to be asked for a few times a second at most."""


def silent(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """A `Track` that shows nothing."""
    yield from items
