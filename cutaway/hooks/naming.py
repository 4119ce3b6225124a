"""The names of a network's modules as its author knows them, whatever the network is wrapped into."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

_WRAPPERS = (DataParallel, DistributedDataParallel, AveragedModel)
_MODULE_STATE = list(vars(nn.Module()))
# What torch.compile, FSDP and activation checkpointing call the module inside.
_INSIDE = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


def named_modules(network: nn.Module, *, shared: bool = False) -> dict[str, nn.Module]:
    """Every module by its name without `module.` and `_orig_mod.`; a wrapper's name stands for what it wraps.

    Args:
        network: Any module, also in DataParallel, DistributedDataParallel or AveragedModel, or from torch.compile.
        shared: Give a module that has several names under each of them, and not under its first only.
    """
    return dict(_named(network, "", set(), shared))


def without_a_wrapper(name: str) -> str | None:
    """A name or pattern without its first part that a wrapper may have brought; None where it has none.

    Example:
        >>> without_a_wrapper("_orig_mod.module.layer4")
        'module.layer4'
    """
    parts = name.split(".")
    brought = next((part for part in parts if part == "module" or part in _INSIDE), None)
    if brought is None:
        return None
    parts.remove(brought)
    return ".".join(parts)


def find_module(network: nn.Module, name: str) -> nn.Module | None:
    """The module of that name, whether the name is the one without wrappers or torch's own; None where there is none.

    Args:
        network: As of `named_modules`.
        name: E.g. `layer4`, `module.layer4` in DataParallel, `_orig_mod.layer4` from torch.compile.
    """
    found: nn.Module | None = _unwrapped(network)
    for part in name.split(".") if name else ():
        found = None if found is None else found._modules.get(part)
        found = None if found is None else _unwrapped(found)
    if found is None:
        found = dict(network.named_modules(remove_duplicate=False)).get(name)
    return found


def all_modules(network: nn.Module) -> list[nn.Module]:
    """What `network.modules()` gives, in its order, at a third of the time: every explanation asks for it."""
    seen: dict[nn.Module, None] = {}
    ahead: list[nn.Module | None] = [network]
    while ahead:
        module = ahead.pop()
        if module is not None and module not in seen:
            seen[module] = None
            if module._modules:
                ahead.extend(reversed(module._modules.values()))
    return list(seen)


def own_attributes(module: nn.Module) -> dict[str, Any]:
    """A module's attributes without its parameters, buffers, children, and whatever else every module has."""
    present = vars(module)
    size = len(_MODULE_STATE)
    if list(islice(present, size)) == _MODULE_STATE:  # as almost always: a module's own attributes follow
        return dict(islice(present.items(), size, None))
    return {name: value for name, value in present.items() if name not in _MODULE_STATE}


def is_compiled(modules: Iterable[nn.Module]) -> bool:
    """Whether any of a network's modules runs through torch.compile."""
    return any(
        "_orig_mod" in module._modules or getattr(module, "_compiled_call_impl", None) is not None for module in modules
    )


def _named(module: nn.Module, name: str, seen: set[int], shared: bool) -> Iterator[tuple[str, nn.Module]]:
    inside = _wrapped_by(module)
    if inside is not None:
        yield from _named(inside, name, seen, shared)
        return
    if id(module) in seen and not shared:
        return
    seen.add(id(module))
    yield name, module
    for part, child in module.named_children() if not shared else module._modules.items():
        if child is not None:
            yield from _named(child, f"{name}.{part}" if name else part, seen, shared)


def _unwrapped(module: nn.Module) -> nn.Module:
    while (inside := _wrapped_by(module)) is not None:
        module = inside
    return module


def _wrapped_by(module: nn.Module) -> nn.Module | None:
    if isinstance(module, _WRAPPERS):
        return module.module
    return next((module._modules[part] for part in _INSIDE if module._modules.get(part) is not None), None)
