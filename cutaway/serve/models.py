"""The models of a server by their names, each with what is in use of it at present.

Whatever answers a request reads `Served.now` once, at its start, and stays with it to its end: so an answer comes from
one file alone, also while another takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from cutaway.errors import ServingError
from cutaway.serve.classifier import Classifier
from cutaway.serve.watched_file import Watch

if TYPE_CHECKING:  # an API alone does without Gradio
    from cutaway.serve.page_mount import Page

__all__ = ["Loaded", "Models", "Served", "UnknownModelError", "model_name"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class UnknownModelError(ServingError):
    """There is no model of that name, or not in that version."""


@dataclass(frozen=True)
class Loaded:
    """A model's file as it was loaded once.

    Attributes:
        classifier: Warmed up.
        version: Counts the loads of this model in this server, from 1; in the words of the Open Inference Protocol.
        tabs: Further ones of its page, see `page.build`.
        page: That it answers on; None where there is none.
    """

    classifier: Classifier
    version: str = "1"
    tabs: Sequence[Any] = ()
    page: Page | None = None


@dataclass
class Served:
    """A model under its name.

    Attributes:
        name: Of letters, digits, `.`, `_` and `-`, as it stands in addresses.
        now: What is in use; replaced by one assignment.
        watch: Of its file; None where another file in its place changes nothing.
    """

    name: str
    now: Loaded
    watch: Watch | None = None


class Models:
    """The models that a server has, in order; the first is meant where none is named.

    Args:
        served: At least one.

    Raises:
        ServingError: There is none, a name does not fit an address, or two are the same.
    """

    def __init__(self, served: Sequence[Served]) -> None:
        if not served:
            raise ServingError("There is no model to serve.")
        for each in served:
            if not _NAME.fullmatch(each.name):
                raise ServingError(
                    f"{each.name[:200]!r} cannot be a model's name in an address.",
                    hint="Use letters, digits, . _ and -, with a letter, a digit or _ first.",
                )
        self._by_name = {each.name: each for each in served}
        if len(self._by_name) < len(served):
            names = [each.name for each in served]
            twice = next(name for name in names if names.count(name) > 1)
            raise ServingError(f"Two models are named {twice!r}.", hint="Give each a name of its own.")

    def __iter__(self) -> Iterator[Served]:
        """Each, in order."""
        return iter(self._by_name.values())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_name)

    @property
    def names(self) -> list[str]:
        """Of each, in order."""
        return list(self._by_name)

    @property
    def may_change(self) -> bool:
        """Whether another file may take the place of one, with other classes."""
        return any(each.watch is not None for each in self)

    def named(self, name: str | None, version: str | None = None) -> tuple[str, Loaded]:
        """A model's name and what is in use of it.

        Args:
            name: None for the first.
            version: That must be in use; None for any.

        Raises:
            UnknownModelError: There is no such model, or the version is no longer, or not yet, in use.
        """
        if name is None:
            name = self.names[0]
        if name not in self._by_name:
            raise UnknownModelError(f"There is no model {name[:100]!r}, but {_listed(self.names)}.")
        now = self._by_name[name].now
        if version is not None and version != now.version:
            raise UnknownModelError(f"Model {name!r} has no version {version[:20]!r}, but {now.version}.")
        return name, now


def model_name(file_name: str) -> str:
    """What the model in a file is called where a name must fit into an address."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", PurePath(file_name).stem).strip("-.")[:128] or "model"


def _listed(names: Sequence[str]) -> str:
    """`'a'`, or `'a' and 'b'`."""
    *others, last = map(repr, names)
    return f"{', '.join(others)} and {last}" if others else last
