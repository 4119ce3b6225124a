"""Leaving a network as it was found."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import is_, itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cutaway.errors import InspectionError
from cutaway.hooks.naming import all_modules, own_attributes

_tables = itemgetter(
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_parameters",
    "_buffers",
    "_non_persistent_buffers_set",
    "_modules",
)
_CONTAINERS = (list, dict, set, deque)
_NO_CONTAINERS = frozenset({bool, int, float, str, tuple, type(None)})
# The random states, and torch's switches, are one for all threads and networks, so one thread at a time has its turn.
turn = threading.RLock()
_Steps = tuple[Callable[[Any], None], Iterable[Any]]


@contextmanager
def untouched(network: nn.Module) -> Iterator[nn.Module]:
    """Gives the network back as it was, whatever happens inside the block.

    Restored are, per module, the train or eval flag, the hooks, which parameters, buffers and children it has, the
    buffers' values (BatchNorm's statistics) and the attributes of its own, with what lists, dictionaries, sets, deques
    and tensors among them hold; per parameter `requires_grad` and `.grad`; and the random states of torch (CPU, CUDA,
    MPS), numpy and Python. The values of parameters are not kept, since no inspection writes them. Where one of these
    cannot be put back, all others still are. Threads take turns: one waits until another's block is over.

    Args:
        network: Any module.

    Yields:
        The same network.

    Raises:
        InspectionError: The network was made under `inference_mode`, or does not know its shapes yet.
    """
    with turn:
        modules = all_modules(network)
        attributes = list(map(vars, modules))
        parameters = _tensors(present["_parameters"] for present in attributes)
        buffers = _tensors(present["_buffers"] for present in attributes)
        containers, others = _held_by(modules)
        _require_shapes(network, (*parameters, *buffers))
        # Such a tensor's `requires_grad` cannot be set outside the mode.
        if not torch.is_inference_mode_enabled() and any(map(Tensor.is_inference, parameters)):
            raise InspectionError(
                f"{type(network).__name__} was made under torch.inference_mode(), where its parameters stay.",
                hint="Make it outside of inference_mode, or inspect `copy.deepcopy(network)`.",
            )
        tables = list(chain.from_iterable(map(_tables, attributes)))
        empty = [table for table in tables if not table]
        # Few objects in all: Python's garbage collector would run through everything that torch made, for longer than a
        # small network takes.
        steps: list[_Steps] = [
            (_restore_attributes, [(attributes, _copies_of(attributes))]),
            (_restore_container, _kept(chain(filter(None, tables), containers))),
            # Looked at when the block is over.
            (_clear, filter(None, empty)),
            (_restore_buffers, _contents_of(_each_once((*buffers, *others)))),
            (_restore_parameter, [_state_of_parameter(parameter) for parameter in parameters]),
            # The last: nothing that is put back draws numbers afterwards.
            (_restore_random_states, [_random_states()]),
        ]
        try:
            yield network
        finally:
            _take(steps)


@contextmanager
def attributes_kept(network: nn.Module) -> Iterator[None]:
    """Gives modules back what they hold beside their state: some keep tensors of a run, such as a detector's anchors,
    and these may have no values, or hold on to a graph.
    """
    modules = all_modules(network)
    attributes = list(map(vars, modules))
    steps: list[_Steps] = [
        (_restore_attributes, [(attributes, _copies_of(attributes))]),
        (_restore_container, _kept(_held_by(modules)[0])),
    ]
    try:
        yield
    finally:
        _take(steps)


def require_initialized(network: nn.Module) -> None:
    """Refuses a network with parameters or buffers that get their shape by its first run.

    Raises:
        InspectionError: It has such.
    """
    _require_shapes(network, (*network.parameters(), *network.buffers()))


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


def _require_shapes(network: nn.Module, tensors: Iterable[Tensor]) -> None:
    one_of_each_type = {type(tensor): tensor for tensor in tensors}
    if not any(map(is_lazy, one_of_each_type.values())):
        return
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(tensor):
            raise InspectionError(
                f"{name!r} has no shape yet: its lazy layer gets it by the network's first run.",
                hint="Run the network on a batch first.",
            )


def _tensors(tables: Iterable[Mapping[str, Tensor | None]]) -> list[Tensor]:
    """Each once, where several modules share one."""
    return _each_once([tensor for table in tables if table for tensor in table.values() if tensor is not None])


def _each_once(tensors: Sequence[Tensor]) -> list[Tensor]:
    return list(dict(zip(map(id, tensors), tensors, strict=True)).values())


def _take(steps: Sequence[_Steps]) -> None:
    """Takes every step, also after any that failed or were interrupted; then raises an interrupt or the first error."""
    errors: list[BaseException] = []
    for restore, states in steps:
        for state in states:
            try:
                restore(state)
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)
    if errors:
        raise next((error for error in errors if not isinstance(error, Exception)), errors[0])


def _copies_of(attributes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(map(dict.copy, attributes))


def _restore_attributes(state: tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]) -> None:
    attributes, before = state
    # In one go, so that an interrupt cannot come between two modules.
    list(map(dict.update, attributes, before))
    if sum(map(len, attributes)) > sum(map(len, before)):
        for present, former in zip(attributes, before, strict=True):
            for name in present.keys() - former.keys():
                del present[name]


def _held_by(modules: Iterable[nn.Module]) -> tuple[list[Any], list[Tensor]]:
    """The containers and tensors among modules' own attributes, and those in these containers."""
    containers: dict[int, Any] = {}
    tensors: list[Tensor] = []
    ahead: list[Iterable[Any]] = [own_attributes(module).values() for module in modules]
    while ahead:
        for value in ahead.pop():
            if type(value) in _NO_CONTAINERS:
                continue
            if isinstance(value, _CONTAINERS):
                if id(value) not in containers:
                    containers[id(value)] = value
                    ahead.append(value.values() if isinstance(value, dict) else value)
            elif type(value) is Tensor:
                tensors.append(value)
    return list(containers.values()), tensors


def _kept(containers: Iterable[Any]) -> list[tuple[Any, Any]]:
    return [(container, _copy_of(container)) for container in containers]


def _copy_of(container: Any) -> Any:
    if type(container) not in _CONTAINERS:
        # Of the plain kind, since a subclass may copy itself in another way.
        for kind in _CONTAINERS:
            if isinstance(container, kind):
                return kind(container)
    return container.copy()


def _restore_container(state: tuple[Any, Any]) -> None:
    # In place, because the handles of the hooks hold on to these very dictionaries. But a subclass may let nobody write
    # into it, or write more than it is given.
    container, before = state
    if _holds_the_same(container, before):
        return
    if isinstance(container, list):
        container[:] = before
    elif isinstance(container, deque):
        container.clear()
        container.extend(before)
    else:
        container.clear()
        container.update(before)


def _holds_the_same(container: Any, before: Any) -> bool:
    if len(container) != len(before) or not all(map(is_, container, before)):
        return False
    return not isinstance(container, dict) or all(map(is_, container.values(), before.values()))


def _clear(container: Any) -> None:
    container.clear()


def _state_of_parameter(parameter: Tensor) -> tuple[Any, ...]:
    grad = parameter.grad
    return parameter, parameter.requires_grad, grad, None if grad is None else _content_of(grad)


def _restore_parameter(state: tuple[Any, ...]) -> None:
    parameter, requires_grad, grad, content = state
    if parameter.requires_grad != requires_grad:
        parameter.requires_grad_(requires_grad)
    if content is not None:
        _restore_content(*content)
    if parameter.grad is not grad:
        parameter.grad = grad


_Content = tuple[Tensor, Tensor, int | None]


def _content_of(tensor: Tensor) -> _Content:
    """A tensor, a copy of it, and its version."""
    return tensor, tensor.detach().clone(), None if tensor.is_inference() else tensor._version


def _restore_content(tensor: Tensor, before: Tensor, version: int | None) -> None:
    """Writes back only where it changed, so that autograd graphs that hold the tensor stay valid."""
    if tensor.is_meta or not _has_changed(tensor, before, version):
        return
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        if tensor.shape != before.shape:
            tensor.resize_(before.shape)
        tensor.copy_(before)


def _has_changed(tensor: Tensor, before: Tensor, version: int | None) -> bool:
    # Its version counter would not do: BatchNorm under `inference_mode` leaves it as it is. But sparse and nested
    # tensors have nothing else.
    if _is_plain(tensor):
        return not torch.equal(tensor, before)
    return version is None or tensor._version != version


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_nested


_Contents = tuple[Sequence[Tensor], Sequence[torch.Size], Tensor]


def _restore_buffers(contents: _Content | _Contents) -> None:
    if isinstance(contents[0], Tensor):
        _restore_content(*contents)
        return
    tensors, shapes, before = contents
    if tensors[0].is_meta or not _have_changed(tensors, shapes, before):
        return
    each = torch.split(before, [shape.numel() for shape in shapes])
    kept = [(tensor, values.view(shape), None) for tensor, values, shape in zip(tensors, each, shapes, strict=True)]
    _take([(lambda one: _restore_content(*one), kept)])


def _contents_of(tensors: Iterable[Tensor]) -> list[_Content | _Contents]:
    """Tensors of a kind with one copy of all their values, since copying a small tensor takes as long as a large one.

    Quantised tensors have scales of their own, so each is copied by itself, as are those that `_is_plain` leaves out.
    """
    alike: dict[Any, list[Tensor]] = {}
    found: list[_Content | _Contents] = []
    for tensor in tensors:
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
            found.append(_content_of(tensor))
        else:
            alike.setdefault((tensor.dtype, tensor.device, tensor.dim()), []).append(tensor)
    found.extend((group, [tensor.shape for tensor in group], _values_of(group)) for group in alike.values())
    return found


def _have_changed(tensors: Sequence[Tensor], shapes: Sequence[torch.Size], before: Tensor) -> bool:
    if [tensor.shape for tensor in tensors] != shapes:
        return True
    try:
        return not torch.equal(_values_of(tensors), before)
    except RuntimeError:  # one of them is of another type or on another device by now
        return True


def _values_of(tensors: Sequence[Tensor]) -> Tensor:
    """The values of tensors with as many dimensions, one after the other, in a tensor of its own."""
    with torch.no_grad():
        if tensors[0].dim() == 0:
            return torch.stack(list(tensors))
        return torch.cat([tensor.reshape(-1) for tensor in tensors] if tensors[0].dim() > 1 else list(tensors))


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
