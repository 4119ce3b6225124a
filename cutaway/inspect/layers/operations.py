"""One call of an operator of ATen, with its arguments by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor


class Operation:
    """One call of an ATen operator, with its arguments by name."""

    def __init__(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        declared = func._schema.arguments
        self.func = func
        self.name = func._schema.name.removeprefix("aten::")
        self.arguments = {each.name: each.default_value for each in declared if each.has_default_value()}
        self.arguments |= {each.name: value for each, value in zip(declared, args, strict=False)} | kwargs
        self.tensors = list(tensors_in(self.arguments.values()))
        self.outputs = list(tensors_in([output]))

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, otherwise: Any = None) -> Any:
        """An argument that not every overload has."""
        return self.arguments.get(name, otherwise)


def tensors_in(values: Any) -> Iterator[Tensor]:
    """All tensors in nested lists and tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)
