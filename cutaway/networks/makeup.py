"""What decides which shapes a network's layers return, to tell whether it is still the network that it was."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from itertools import chain
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from cutaway.hooks.naming import all_modules, own_attributes

_VALUES = frozenset({bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.memory_format})
# Whose code nobody changes while it runs, apart from putting a function in the place of another.
_LIBRARIES = frozenset({"torch", "torchvision", "typing", "abc"})
# A network's modules are looked at by themselves; of the others only which class it is matters.
_KNOWN_BY_THEMSELVES = (nn.Module, Tensor, BaseException, tuple)


class _UnknownError(Exception):
    """A part that may change without being seen."""


def makeup(network: nn.Module) -> tuple[Any, ...] | None:
    """Which modules a network is made of, by which names, with which code, sizes and settings.

    Two of these are equal where nothing was changed between them but weights, modes and gradients. They hold on to
    neither the network nor any tensor.

    Args:
        network: Any module.

    Returns:
        The makeup; None where it cannot be told whether it changes: where there are hooks, or where attributes, those
        of the class, or what its functions read from outside are more than numbers, words, classes, functions, and
        lists or dictionaries of them. Attributes of imported Python modules, and what functions read that its functions
        call, are not looked at.
    """
    modules = all_modules(network)
    has_hooks = any(module._forward_hooks or module._forward_pre_hooks for module in modules)
    if has_hooks or _has_any_global_hook():  # type: ignore[no-untyped-call]
        return None
    kinds = dict.fromkeys(map(type, modules))
    try:
        return tuple(map(_of_module, modules)), tuple(chain.from_iterable(map(_code, kinds)))
    except (_UnknownError, RecursionError):
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
    if isinstance(value, FunctionType):
        return _of_function(value)
    if isinstance(value, type):
        return _of_class(value)
    if _is_function_in_c(value):
        return ref(value)
    raise _UnknownError


def _is_function_in_c(value: Any) -> bool:
    return isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, type | ModuleType | None)


def _of_class(kind: type) -> Any:
    return ref(kind) if issubclass(kind, _KNOWN_BY_THEMSELVES) else (ref(kind), tuple(_code(kind)))


def _code(kind: type) -> Iterator[Any]:
    """The functions and values of a class and of those that it is derived from."""
    for each in kind.__mro__:
        if each.__module__ == "builtins" or each is nn.Module:
            continue
        is_own = not _is_of_library(each.__module__)
        for name, value in vars(each).items():
            if isinstance(value, FunctionType):
                # What making it read is seen in what was made.
                yield _of_function(value) if is_own and name != "__init__" else (ref(value), value.__code__)
            elif is_own and name != "_abc_impl" and not name.startswith("__"):
                yield name, _of_member(value)


def _of_member(value: Any) -> Any:
    if isinstance(value, staticmethod | classmethod):
        return type(value), _of_value(value.__func__)
    return (property, _of_value(value.fget)) if type(value) is property else _of_value(value)


def _of_function(function: FunctionType) -> Any:
    """Which function it is, its code, which tools that reload files replace, and what it reads from outside."""
    itself = ref(function), function.__code__
    if _is_of_library(str(function.__globals__.get("__name__"))):
        inside = getattr(function, "__wrapped__", None)
        return itself if inside is None else (itself, _of_value(inside))
    outside = function.__globals__
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return (
        itself,
        tuple([value if type(value) in _VALUES else None for value in defaults]),
        tuple([(name, _of_read(outside[name])) for name in _names_in(function.__code__) if name in outside]),
        tuple([_of_cell(cell) for name, cell in cells if name != "__class__"]),
    )


def _of_cell(cell: CellType) -> Any:
    try:
        value = cell.cell_contents
    except ValueError:  # it is empty as yet
        raise _UnknownError from None
    return _of_value(value)


def _of_read(value: Any) -> Any:
    if isinstance(value, ModuleType):
        return ref(value)
    return (ref(value), value.__code__) if isinstance(value, FunctionType) else _of_value(value)


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names_in(each)


def _is_of_library(module: str) -> bool:
    return module.partition(".")[0] in _LIBRARIES
