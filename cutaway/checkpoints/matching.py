"""Do these weights fit this network? Names, shapes and types compared, and told as a table where they don't."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from cutaway.checkpoints.tensor_files import TYPES

# What DistributedDataParallel and torch.compile put before every name.
_WRAPPERS = ("module.", "_orig_mod.")
# torchvision renames these itself when it loads its DenseNets, since a module's name may no longer hold a dot.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_NUMBER = re.compile(r"\d+")
_COMPARED_AT_MOST = 32
_ROWS = 12
_ROWS_FOR_UNEXPECTED = 3

Status = Literal["missing", "unexpected", "wrong shape", "wrong type"]


class Described(NamedTuple):
    """A tensor's data type, as safetensors calls it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class Pair:
    """A tensor of the network and the one that was found for it.

    Attributes:
        name: In the network.
        found_name: Where the weights come from.
        expected: Of the network.
        found: What is there.
    """

    name: str
    found_name: str
    expected: Described
    found: Described


@dataclass(frozen=True)
class Missing:
    """A tensor of the network that nothing was found for, and the most similar names that nothing else needs."""

    name: str
    expected: Described
    nearest: tuple[str, ...]


@dataclass(frozen=True)
class Unexpected:
    """A tensor that the network has no place for."""

    name: str
    found: Described


@dataclass(frozen=True)
class Matching:
    """What fits and what does not.

    Attributes:
        loadable: Tensors that fit, in the network's order.
        missing: Tensors of the network that were not found.
        unexpected: Tensors that were found and are no part of the network.
        wrong_shape: Found by name, of another shape.
        wrong_type: Found by name, of the right shape and another data type.
    """

    loadable: tuple[Pair, ...]
    missing: tuple[Missing, ...]
    unexpected: tuple[Unexpected, ...]
    wrong_shape: tuple[Pair, ...]
    wrong_type: tuple[Pair, ...]

    @property
    def is_exact(self) -> bool:
        """Whether all of the network was found, and nothing else."""
        return not (self.missing or self.unexpected or self.wrong_shape or self.wrong_type)

    @property
    def num_expected(self) -> int:
        """Tensors of the network."""
        return len(self.loadable) + len(self.missing) + len(self.wrong_shape) + len(self.wrong_type)

    @property
    def converted(self) -> tuple[Pair, ...]:
        """Loadable tensors of another floating-point type than the network's."""
        return tuple(pair for pair in self.loadable if pair.expected.dtype != pair.found.dtype)


def describe(state: Mapping[str, Tensor]) -> dict[str, Described]:
    """Types and shapes of a state dict; also of one on `meta`."""
    return {name: Described(TYPES.get(t.dtype, str(t.dtype)), tuple(t.shape)) for name, t in state.items()}


def match(
    expected: Mapping[str, tuple[str, tuple[int, ...]]],
    found: Mapping[str, tuple[str, tuple[int, ...]]],
    *,
    convert: bool = False,
) -> Matching:
    """Compares what a network needs with what there is.

    The prefixes `module.` and `_orig_mod.` are understood in any order and number. A tensor under its plain name goes
    before one under a prefixed name, and the second of two for the same place counts as unexpected.

    Args:
        expected: Name -> data type (as safetensors calls it) and shape, of the network.
        found: The same of the weights.
        convert: Let floating-point tensors of another precision pass; the caller converts them.
    """
    places = _places(expected, found)
    pairs = [
        Pair(name, places[name], Described(*need), Described(*found[places[name]]))
        for name, need in expected.items()
        if name in places
    ]
    taken = set(places.values())
    unexpected = {name: Described(*what) for name, what in found.items() if name not in taken}
    similar = _Similar(unexpected)
    return Matching(
        loadable=tuple(pair for pair in pairs if _fault(pair, convert) is None),
        missing=tuple(
            Missing(name, Described(*need), similar.nearest(name, Described(*need)))
            for name, need in expected.items()
            if name not in places
        ),
        unexpected=tuple(Unexpected(name, what) for name, what in unexpected.items()),
        wrong_shape=tuple(pair for pair in pairs if _fault(pair, convert) == "wrong shape"),
        wrong_type=tuple(pair for pair in pairs if _fault(pair, convert) == "wrong type"),
    )


def render(matching: Matching, *, limit: int = _ROWS) -> str:
    """The tensors that don't fit as a table in plain text, then how many of each kind there are, then how many fit.

    Args:
        matching: What `match` gave.
        limit: Rows to show.
    """
    rows = _rows(matching)
    unexpected = [row for row in rows if row[1] == "unexpected"]
    others = [row for row in rows if row[1] != "unexpected"]
    shown = others[: limit - min(len(unexpected), _ROWS_FOR_UNEXPECTED)]
    shown += unexpected[: limit - len(shown)]
    lines = _table([("tensor", "", "the network's", "found", "nearest name"), *shown]) if rows else []
    counts = Counter(row[1] for row in rows)
    if len(rows) > len(shown):
        told = ", ".join(f"{count} {status}" for status, count in counts.items())
        lines.append(f"… and {len(rows) - len(shown)} more; in all {told}.")
    return "\n".join([*lines, f"{fitting(matching)} fit."])


def fitting(matching: Matching) -> str:
    """`60 of 62 tensors`: what `--partial` loads."""
    return f"{len(matching.loadable)} of {matching.num_expected} tensors"


def _places(
    expected: Mapping[str, tuple[str, tuple[int, ...]]], found: Mapping[str, tuple[str, tuple[int, ...]]]
) -> dict[str, str]:
    """The network's name -> the name that was found for it."""
    places = {name: name for name in found if name in expected}
    for name in found:
        place = _unwrapped(name, expected)
        if place is not None:
            places.setdefault(place, name)
    return places


def _unwrapped(name: str, expected: Iterable[str]) -> str | None:
    """The network's own name behind one with prefixes; stops as soon as there is one, as a network may have them."""
    while name not in expected:
        old = _OLD_DENSENET.match(name)
        if old and old[1] + old[2] in expected:
            return old[1] + old[2]
        shorter = _without_wrapper(name)
        if shorter == name:
            return None
        name = shorter
    return name


def _without_wrapper(name: str) -> str:
    for wrapper in _WRAPPERS:
        if name.startswith(wrapper):
            return name.removeprefix(wrapper)
    # A submodule that was compiled by itself has its wrapper in the middle, and no module of anybody's is called so.
    return name.replace("._orig_mod.", ".", 1)


def _fault(pair: Pair, convert: bool) -> Status | None:
    if pair.expected.shape != pair.found.shape:
        return "wrong shape"
    same = pair.expected.dtype == pair.found.dtype
    if same or (convert and pair.expected.dtype in _FLOATS and pair.found.dtype in _FLOATS):
        return None
    return "wrong type"


class _Similar:
    """Finds names like another among those that nothing needs."""

    def __init__(self, names: Mapping[str, Described]) -> None:
        # Each comparison takes tens of microseconds, and there may be a thousand names on either side. So only likely
        # ones are compared: of the same shape, since those could be loaded by renaming, and with the same numbers.
        self._groups: dict[Hashable, list[str]] = {}
        for name, what in names.items():
            for group in self._groups_of(name, what):
                self._groups.setdefault(group, []).append(name)

    def nearest(self, name: str, need: Described) -> tuple[str, ...]:
        """Up to two."""
        candidates = next((self._groups[key] for key in self._groups_of(name, need) if key in self._groups), [])
        return tuple(difflib.get_close_matches(name, candidates[:_COMPARED_AT_MOST], n=2, cutoff=0.5))

    def _groups_of(self, name: str, what: Described) -> tuple[Hashable, ...]:
        return (what.shape, tuple(_NUMBER.findall(name))), what.shape, name.rpartition(".")[2]


def _rows(matching: Matching) -> list[tuple[str, str, str, str, str]]:
    wrong = [("wrong shape", pair) for pair in matching.wrong_shape] + [("wrong type", p) for p in matching.wrong_type]
    return [
        *((pair.name, status, str(pair.expected), str(pair.found), "") for status, pair in wrong),
        *((gap.name, "missing", str(gap.expected), "", ", ".join(gap.nearest)) for gap in matching.missing),
        *((extra.name, "unexpected", "", str(extra.found), "") for extra in matching.unexpected),
    ]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  " + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
