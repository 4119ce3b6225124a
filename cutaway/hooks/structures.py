"""Tensors in what modules take and return: tuples, lists, dictionaries, named tuples and dataclasses of them."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor


def map_tensors(function: Callable[[Tensor], Any], structure: Any) -> Any:
    """Applies a function to every tensor in tuples, lists, dictionaries and dataclasses, and keeps their types."""
    if isinstance(structure, Tensor):
        return function(structure)
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(map_tensors(function, item) for item in structure))
    # What `x.max(dim=1)` returns: a tuple of torch's own kind.
    if type(structure) in (tuple, list) or (isinstance(structure, tuple) and hasattr(structure, "n_sequence_fields")):
        return type(structure)(map_tensors(function, item) for item in structure)
    if isinstance(structure, dict):
        mapped = {key: map_tensors(function, item) for key, item in structure.items()}
        if type(structure) is dict:
            return mapped
        result = copy.copy(structure)
        result.update(mapped)
        return result
    if dataclasses.is_dataclass(structure) and not isinstance(structure, type):
        replaced: Any = copy.copy(structure)
        for field in dataclasses.fields(structure):
            object.__setattr__(replaced, field.name, map_tensors(function, getattr(structure, field.name)))
        return replaced
    return structure


def tensors_in(structure: Any) -> list[Tensor]:
    """Every tensor in a structure, in its order."""
    found: list[Tensor] = []
    map_tensors(found.append, structure)
    return found
