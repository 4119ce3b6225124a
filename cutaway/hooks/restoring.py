"""Leaving a network as it was found."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cutaway.errors import InspectionError

_HOOK_TABLES = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_MODULE_STATE = frozenset(vars(nn.Module()))


@contextmanager
def untouched(network: nn.Module) -> Iterator[nn.Module]:
    """Gives the network back as it was, whatever happens inside the block.

    Restored are, per module, the train or eval flag, the hooks, the buffers (BatchNorm's statistics) and the
    attributes of its own; per parameter `requires_grad` and `.grad`; and the random states of torch (CPU, CUDA, MPS),
    numpy and Python. The values of parameters are not kept, since no inspection writes them. Where one of these cannot
    be put back, all others still are.

    Args:
        network: Any module.

    Yields:
        The same network.

    Raises:
        InspectionError: The network was made under `inference_mode`, or does not know its shapes yet.
    """
    modules = list(network.modules())
    _require_shapes(network, modules)
    parameters = _tensors(module._parameters for module in modules)
    # Such a tensor's `requires_grad` cannot be set outside the mode.
    if not torch.is_inference_mode_enabled() and any(parameter.is_inference() for parameter in parameters):
        raise InspectionError(
            f"{type(network).__name__} was made under torch.inference_mode(), where its parameters stay.",
            hint="Make it outside of inference_mode, or inspect `copy.deepcopy(network)`.",
        )
    # Plain tuples and few of them: an object per step would have Python's garbage collector run through everything
    # that torch made, for longer than a small network takes.
    steps: list[tuple[Callable[..., None], Any]] = [(_restore_attributes, _attributes_of(modules))]
    steps += [(_restore_module, _state_of(module)) for module in modules]
    steps += [(_Value.restore, _Value(buffer)) for buffer in _tensors(module._buffers for module in modules)]
    steps += [(_restore_parameter, _state_of_parameter(parameter)) for parameter in parameters]
    # The last: nothing that is put back draws numbers afterwards.
    steps.append((_restore_random_states, _random_states()))
    try:
        yield network
    finally:
        _take(steps)


@contextmanager
def attributes_kept(network: nn.Module) -> Iterator[None]:
    """Gives modules back what they hold beside their state: some keep tensors of a run, such as a detector's anchors,
    and these may have no values, or hold on to a graph.
    """
    before = _attributes_of(network.modules())
    try:
        yield
    finally:
        _restore_attributes(before)


def require_initialized(network: nn.Module) -> None:
    """Refuses a network with parameters or buffers that get their shape by its first run.

    Raises:
        InspectionError: It has such.
    """
    _require_shapes(network, network.modules())


def seed_torch(seed: int) -> None:
    """`torch.manual_seed`, but of accelerators that are in use alone.

    Torch remembers the seed for one that has not started, and would start it with that, long after its state was put
    back everywhere else.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def _require_shapes(network: nn.Module, modules: Iterable[nn.Module]) -> None:
    tables: list[Mapping[str, Tensor | None]] = [table for m in modules for table in (m._parameters, m._buffers)]
    if not any(map(is_lazy, _tensors(tables))):
        return
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(tensor):
            raise InspectionError(
                f"{name!r} has no shape yet: its lazy layer gets it by the network's first run.",
                hint="Run the network on a batch first.",
            )


def _tensors(tables: Iterable[Mapping[str, Tensor | None]]) -> list[Tensor]:
    """Each once, where several modules share one."""
    return list({id(tensor): tensor for table in tables for tensor in table.values() if tensor is not None}.values())


def _take(steps: Sequence[tuple[Callable[..., None], Any]]) -> None:
    """Takes every step, also after any that failed or were interrupted; then raises an interrupt or the first error."""
    errors: list[BaseException] = []
    for restore, state in steps:
        try:
            restore(state)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)
    if errors:
        raise next((error for error in errors if not isinstance(error, Exception)), errors[0])


_Attributes = list[tuple[nn.Module, dict[str, Any], dict[str, Any]]]


def _attributes_of(modules: Iterable[nn.Module]) -> _Attributes:
    """Of each module its attributes, and copies of those of its own that are containers."""
    found = []
    for module in modules:
        present = vars(module)
        contents = {
            key: present[key].copy()
            for key in present.keys() - _MODULE_STATE
            if isinstance(present[key], list | dict | set)
        }
        found.append((module, present.copy(), contents))
    return found


def _restore_attributes(before: _Attributes) -> None:
    for module, attributes, contents in before:
        present = vars(module)
        present.update(attributes)
        if len(present) > len(attributes):
            for key in present.keys() - attributes.keys():
                del present[key]
        for key, content in contents.items():
            value = attributes[key]
            if isinstance(value, list):
                value[:] = content
            else:
                _refill(value, content)


def _state_of(module: nn.Module) -> tuple[Any, ...]:
    present = vars(module)
    tables = [(table, table.copy()) for name in _HOOK_TABLES if (table := present[name])]
    return module, module._buffers.copy(), module._non_persistent_buffers_set.copy(), tables


def _restore_module(state: tuple[Any, ...]) -> None:
    module, buffers, non_persistent, tables = state
    present = vars(module)
    # In place, because the handles of the hooks hold on to these very dictionaries.
    for name in _HOOK_TABLES:
        if table := present[name]:
            table.clear()
    for table, content in tables:
        _refill(table, content)
    _refill(module._buffers, buffers)
    _refill(module._non_persistent_buffers_set, non_persistent)


def _refill(container: Any, contents: Any) -> None:
    if container or contents:
        container.clear()
        container.update(contents)


def _state_of_parameter(parameter: Tensor) -> tuple[Tensor, bool, Tensor | None, _Value | None]:
    grad = parameter.grad
    return parameter, parameter.requires_grad, grad, None if grad is None else _Value(grad)


def _restore_parameter(state: tuple[Tensor, bool, Tensor | None, _Value | None]) -> None:
    parameter, requires_grad, grad, value = state
    if parameter.requires_grad != requires_grad:
        parameter.requires_grad_(requires_grad)
    if value is not None:
        value.restore()
    if parameter.grad is not grad:
        parameter.grad = grad


class _Value:
    """A tensor's content; written back only where it changed, so that autograd graphs that hold it stay valid."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._content = tensor.detach().clone()
        self._version = None if tensor.is_inference() else tensor._version

    def restore(self) -> None:
        if self._tensor.is_meta or not self._has_changed():
            return
        with torch.inference_mode(self._tensor.is_inference()), torch.no_grad():
            self._tensor.copy_(self._content)

    def _has_changed(self) -> bool:
        # Its version counter would not do: BatchNorm under `inference_mode` leaves it as it is. But sparse and nested
        # tensors have nothing else.
        if self._tensor.layout == torch.strided and not self._tensor.is_nested:
            return not torch.equal(self._tensor, self._content)
        return self._version is None or self._tensor._version != self._version


def _random_states() -> tuple[Any, ...]:
    # Asking an accelerator that nobody used yet for its state would start it.
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    return torch.get_rng_state(), random.getstate(), np.random.get_state(), cuda, mps


def _restore_random_states(states: tuple[Any, ...]) -> None:
    cpu, python, legacy_numpy, cuda, mps = states
    torch.set_rng_state(cpu)
    random.setstate(python)
    np.random.set_state(legacy_numpy)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)
    if mps is not None:
        torch.mps.set_rng_state(mps)
