"""Choosing what to watch in a network: by name, pattern, type or a function of one's own."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from cutaway.errors import InspectionError
from cutaway.hooks.captured import no_such_layer
from cutaway.hooks.naming import is_wrapped, named_modules, plain_name

Selector = str | type[nn.Module] | Callable[[str, nn.Module], bool]
Layers = Selector | Iterable[Selector] | None


@dataclass(frozen=True)
class Selection:
    """What is to be watched.

    Attributes:
        modules: Each chosen module once, by the name that it is recorded under.
        names: Every chosen name, with the name that its module is recorded under.
        operations: Names and patterns of operations.
    """

    modules: dict[str, nn.Module]
    names: dict[str, str]
    operations: tuple[str, ...]

    def has_operation(self, name: str) -> bool:
        """Whether an operation is to be watched."""
        return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in self.operations)


def select(network: nn.Module, layers: Layers) -> Selection:
    """Finds what is chosen; the modules without children where nothing is.

    Raises:
        InspectionError: A choice matches nothing.
    """
    if layers is None:
        leaves = {
            name: module for name, module in named_modules(network).items() if not any(True for _ in module.children())
        }
        return Selection(leaves, {name: name for name in leaves}, ())
    modules = named_modules(network, shared=True)
    wanted: set[str] = set()
    operations: list[str] = []
    aliases: dict[str, str] = {}
    for selector in [layers] if isinstance(layers, str | type) or callable(layers) else layers:
        if isinstance(selector, nn.Module):
            known = [name for name, module in modules.items() if module is selector]
            raise InspectionError(
                f"A layer is chosen by its name, not by the {type(selector).__name__} itself.",
                hint=f"Its name is {known[0]!r}." if known else "It is no part of this network.",
            )
        if isinstance(selector, str):
            plain = _as_its_author_calls_it(network, selector, modules)
            if ":" in selector and plain not in modules:
                operations.append(plain)
                continue
            if plain != selector:
                aliases[selector] = plain
        matching = _matching(selector if not isinstance(selector, str) else plain, modules)
        wanted |= matching
    recorded: dict[nn.Module, str] = {}
    names = {name: recorded.setdefault(module, name) for name, module in modules.items() if name in wanted}
    names |= {alias: names[plain] for alias, plain in aliases.items() if plain in names}
    return Selection({name: module for module, name in recorded.items()}, names, tuple(operations))


def _as_its_author_calls_it(network: nn.Module, name: str, modules: dict[str, nn.Module]) -> str:
    if name in modules:
        return name
    plain = plain_name(name)
    if is_wrapped(network) and plain.startswith("module.") and "module" not in modules:
        plain = plain.removeprefix("module.")
    return plain


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
    matching = {name for name, module in modules.items() if selector(name, module)}
    if not matching:
        raise InspectionError("No layer of this network meets the condition.")
    return matching
