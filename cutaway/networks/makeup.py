"""What decides which shapes a network's layers return, to tell whether it is still the network that it was."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from itertools import chain
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from cutaway.hooks.naming import all_modules, own_attributes

_VALUES = frozenset({bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.memory_format})


class _UnknownError(Exception):
    """A part that may change without being seen."""


def makeup(network: nn.Module) -> tuple[Any, ...] | None:
    """Which modules a network is made of, by which names, with which code, sizes and settings.

    Two of these are equal where nothing was changed between them but weights, modes and gradients. They hold on to
    neither the network nor any tensor.

    Args:
        network: Any module.

    Returns:
        The makeup; None where it cannot be told whether it changes: where there are hooks, or attributes that are more
        than numbers, words, classes, functions, and lists or dictionaries of them.
    """
    modules = all_modules(network)
    has_hooks = any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    if has_hooks or _has_any_global_hook():  # type: ignore[no-untyped-call]
        return None
    kinds = dict.fromkeys(map(type, modules))
    try:
        return tuple(map(_of_module, modules)), tuple(chain.from_iterable(map(_code, kinds)))
    except _UnknownError:
        return None


def _of_module(module: nn.Module) -> tuple[Any, ...]:
    return (
        ref(type(module)),
        tuple((name, None if child is None else ref(child)) for name, child in module._modules.items()),
        _of_tensors(module._parameters),
        _of_tensors(module._buffers),
        _of_table(own_attributes(module)),
    )


def _of_tensors(tensors: Mapping[str, Tensor | None]) -> tuple[Any, ...]:
    return tuple(
        [
            (name, None if tensor is None else (tensor.shape, tensor.dtype, tensor.device))
            for name, tensor in tensors.items()
        ]
    )


def _of_table(table: Mapping[Any, Any]) -> tuple[Any, ...]:
    return _of_values(table), _of_values(table.values())


def _of_values(values: Collection[Any]) -> tuple[Any, ...]:
    return tuple(values) if _VALUES.issuperset(map(type, values)) else tuple(map(_of_value, values))


def _of_value(value: Any) -> Any:
    kind = type(value)
    if kind in _VALUES:
        return value
    if kind is tuple or kind is list or kind is torch.Size:
        return kind, _of_values(value)
    if kind is dict:
        return kind, _of_table(value)
    if kind is partial:
        return kind, _of_value(value.func), _of_values(value.args), _of_table(value.keywords)
    if isinstance(value, type | FunctionType) or _is_function_in_c(value):
        return ref(value)
    raise _UnknownError


def _is_function_in_c(value: Any) -> bool:
    return isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, type | ModuleType | None)


def _code(kind: type) -> Iterator[Any]:
    """The functions of a class and of those that it is derived from."""
    for each in kind.__mro__:
        if each in (nn.Module, object):
            continue
        yield from (ref(value) for value in vars(each).values() if isinstance(value, FunctionType))
