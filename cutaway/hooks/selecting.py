"""Choosing what to watch in a network: by name, pattern, type or a function of one's own."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from cutaway.errors import InspectionError
from cutaway.hooks.captured import no_such_layer
from cutaway.hooks.naming import named_modules, without_a_wrapper

Selector = str | type[nn.Module] | Callable[[str, nn.Module], bool]
Layers = Selector | Iterable[Selector] | None


@dataclass(frozen=True)
class Selection:
    """What is to be watched.

    Attributes:
        modules: Each chosen module once, by the name that it is recorded under.
        names: Every chosen name, with the name that its module is recorded under.
        operations: Names and patterns of operations, each with the way it was asked for.
    """

    modules: dict[str, nn.Module]
    names: dict[str, str]
    operations: dict[str, str]

    def has_operation(self, name: str) -> bool:
        """Whether an operation is to be watched."""
        return any(is_meant(name, pattern) for pattern in self.operations)


def select(network: nn.Module, layers: Layers) -> Selection:
    """Finds what is chosen; the modules without children where nothing is.

    Raises:
        InspectionError: A choice matches nothing.
    """
    if layers is None:
        leaves = {
            name: module for name, module in named_modules(network).items() if not any(True for _ in module.children())
        }
        return Selection(leaves, {name: name for name in leaves}, {})
    modules = named_modules(network, shared=True)
    wanted: set[str] = set()
    operations: dict[str, str] = {}
    aliases: dict[str, str] = {}
    for selector in _listed(layers):
        if isinstance(selector, nn.Module):
            known = [name for name, module in modules.items() if module is selector]
            raise InspectionError(
                f"A layer is chosen by its name, not by the {type(selector).__name__} itself.",
                hint=f"Its name is {known[0]!r}." if known else "It is no part of this network.",
            )
        if isinstance(selector, str) and ":" in selector and selector not in modules:
            operations[_operation(selector, modules)] = selector
            continue
        if isinstance(selector, str):
            aliases[selector] = selector = _as_its_author_calls_it(selector, modules)
        wanted |= _matching(selector, modules)
    recorded: dict[nn.Module, str] = {}
    names = {name: recorded.setdefault(module, name) for name, module in modules.items() if name in wanted}
    names |= {alias: names[plain] for alias, plain in aliases.items() if plain in names}
    return Selection({name: module for module, name in recorded.items()}, names, operations)


def has_wildcard(name: str) -> bool:
    """Whether a name is a pattern."""
    return any(sign in name for sign in "*?[")


def is_meant(operation: str, pattern: str) -> bool:
    """Whether an operation has this name, or matches this pattern."""
    return operation == pattern or fnmatch.fnmatchcase(operation, pattern)


def is_any_operation(pattern: str) -> bool:
    """Whether a pattern asks for whatever operations there are, which may be none: `*:*`, `layer1:*#*`."""
    return pattern.partition(":")[2].partition("#")[0] == "*"


def _listed(layers: Any) -> list[Any]:
    if isinstance(layers, str | type) or callable(layers):
        return [layers]
    listed = list(layers) if isinstance(layers, Iterable) else [layers]
    wrong = [one for one in listed if not (isinstance(one, str | type) or callable(one))]
    if wrong and isinstance(wrong[0], tuple | list | set | frozenset):
        raise InspectionError(
            f"Where one layer is meant stands a {type(wrong[0]).__name__}: {wrong[0]!r}.",
            hint="Put all that are to be watched into one list, with none inside it.",
        )
    if wrong or not listed:
        raise InspectionError(
            f"Layers are chosen by names, patterns, types or functions, not by {layers!r}.",
            hint="Leave them out to watch every module without children.",
        )
    return listed


def _operation(name: str, modules: dict[str, nn.Module]) -> str:
    """An operation's name or pattern, with the name of its module as the network's author knows it."""
    path, _, operation = name.partition(":")
    path = _as_its_author_calls_it(path, modules)
    if path not in modules and not has_wildcard(path):
        raise no_such_layer(path, modules, "in this network")
    return f"{path}:{operation}"


def _as_its_author_calls_it(name: str, modules: dict[str, nn.Module]) -> str:
    """A module's name or pattern without what wrappers add to it; as it is where that matches nothing either."""
    shorter: str | None = name
    while shorter is not None:
        if shorter in modules or fnmatch.filter(modules, shorter):
            return shorter
        shorter = without_a_wrapper(shorter)
    return name


def _matching(selector: Selector, modules: dict[str, nn.Module]) -> set[str]:
    if isinstance(selector, str):
        matching = {selector} if selector in modules else set(fnmatch.filter(modules, selector))
        if not matching:
            raise no_such_layer(selector, modules, "in this network")
        return matching
    if isinstance(selector, type):
        matching = {name for name, module in modules.items() if isinstance(module, selector)}
        kinds = sorted({type(module).__name__ for module in modules.values()})
        if not matching:
            raise InspectionError(
                f"No layer of this network is a {selector.__name__}.", hint=f"Its kinds are {', '.join(kinds[:12])}."
            )
        return matching
    _require_two_arguments(selector)
    matching = {name for name, module in modules.items() if selector(name, module)}
    if not matching:
        raise InspectionError("No layer of this network meets the condition.")
    return matching


def _require_two_arguments(condition: Callable[[str, nn.Module], bool]) -> None:
    try:
        signature = inspect.signature(condition)
    except ValueError:
        # Of some functions written in C nothing is known.
        return
    try:
        signature.bind("", nn.Identity())
    except TypeError as error:
        raise InspectionError(
            f"A function that chooses layers takes a layer's name and the layer: {error}.",
            hint="Such as `lambda name, layer: name.endswith('relu')`.",
        ) from error
