"""Watching what modules call that is no module: `F.relu`, `torch.flatten`, the `+` of a residual branch."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cutaway.hooks.naming import named_modules
from cutaway.hooks.structures import tensors_in

_DUNDER = re.compile(r"__(?P<word>\w+)__")
# Names of operators in Python, and of their reflected forms in torch, where those differ from torch's own.
_WORDS = {"truediv": "div", "floordiv": "floor_divide", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor"}
_WORDS |= {"invert": "bitwise_not", "mod": "remainder", "rsub": "sub", "rdiv": "div", "rpow": "pow"}
# In place, but not on the values.
_RESHAPING = frozenset(
    {"unsqueeze_", "squeeze_", "t_", "transpose_", "swapaxes_", "swapdims_", "resize_", "resize_as_", "as_strided_"}
    | {"set_", "detach_", "requires_grad_", "share_memory_", "rename_"}
)
_REFLECTED = frozenset({"add", "sub", "mul", "truediv", "floordiv", "matmul", "pow", "mod", "and", "or", "xor"})


@dataclass(frozen=True)
class OperationCall:
    """One operation that a module called.

    Attributes:
        module: Dotted name of the innermost module that was running; empty for the network itself.
        operation: Its public name: `relu` for `F.relu` and `x.relu_()`, `add` for `+` and `+=`.
        index: 0 for the first operation of this name in this call of the module, and so on.
        args: What it took by position. Where it worked in place, these tensors hold the result already.
        kwargs: What it took by name.
        output: What it returned.
    """

    module: str
    operation: str
    index: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any

    @property
    def name(self) -> str:
        """`module.path:operation#index`, the same in every run of the same code."""
        return f"{self.module}:{self.operation}#{self.index}"


@dataclass(frozen=True)
class OperationStart:
    """An operation that is about to run.

    Attributes:
        name: As `OperationCall.name` will be.
        args: What it takes by position, not yet written over.
        kwargs: What it takes by name.
        is_in_place: Whether it will write its result into its first argument and keep its shape.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    is_in_place: bool


@contextmanager
def watch_operations(
    network: nn.Module,
    on_call: Callable[[OperationCall], Any],
    *,
    inside_leaves: bool = False,
    on_start: Callable[[OperationStart], tuple[Any, ...] | None] | None = None,
) -> Iterator[None]:
    """Reports every operation on tensors that a module's `forward` calls itself, while the block runs.

    An operation that calls others is reported and those are not. Only what takes and returns tensors is an operation:
    no shapes, no attributes, no tensors made from nothing.

    Args:
        network: Any module.
        on_call: Told of each operation when it has ended. What it returns replaces the output, unless it is None.
        inside_leaves: Also report what modules without children and `nn.MultiheadAttention` do, such as the one
            operation of `nn.ReLU`. The network itself is never taken for one.
        on_start: Told of each operation before it runs, also of such that will return no tensor. What it returns
            replaces the positional arguments, unless it is None.
    """
    running: list[_Running] = []
    handles = []
    for name, module in named_modules(network).items():
        is_leaf = name != "" and _is_one_layer(module)
        entering, leaving = _frames(running, name, is_leaf and not inside_leaves)
        # First in, last out: what other hooks do to tensors is not the module's doing.
        handles.append(module.register_forward_pre_hook(entering))
        handles.append(module.register_forward_hook(leaving, prepend=True, always_call=True))
    try:
        with _Watching(running, on_call, on_start):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _is_one_layer(module: nn.Module) -> bool:
    # Attention's output projection is a module that is never called.
    return isinstance(module, nn.MultiheadAttention) or not any(True for _ in module.children())


@contextmanager
def unobserved() -> Iterator[None]:
    """What runs inside, in this thread, is no operation of any module: for hooks that look at tensors."""
    before = getattr(_aside, "is_on", False)
    _aside.is_on = True
    try:
        yield
    finally:
        _aside.is_on = before


_aside = threading.local()


class _Running:
    """One call of a module that has not ended."""

    def __init__(self, name: str, is_closed: bool) -> None:
        self.name = name
        self.is_closed = is_closed
        self.counts: Counter[str] = Counter()


def _frames(running: list[_Running], name: str, is_closed: bool) -> tuple[Callable[..., None], Callable[..., None]]:
    def entering(module: nn.Module, args: tuple[Any, ...]) -> None:
        running.append(_Running(name, is_closed))

    def leaving(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if running:
            running.pop()

    return entering, leaving


class _Watching(TorchFunctionMode):
    def __init__(
        self,
        running: list[_Running],
        on_call: Callable[[OperationCall], Any],
        on_start: Callable[[OperationStart], tuple[Any, ...] | None] | None,
    ) -> None:
        super().__init__()
        self._running = running
        self._on_call = on_call
        self._on_start = on_start

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_seen = self._running and not self._running[-1].is_closed and not getattr(_aside, "is_on", False)
        name = _public_name(func) if is_seen else None
        if name is None or not tensors_in((args, kwargs)):
            return func(*args, **kwargs)
        frame = self._running[-1]
        args = tuple(args)
        if self._on_start is not None:
            full = f"{frame.name}:{name}#{frame.counts[name]}"
            replaced = self._on_start(OperationStart(full, args, kwargs, _is_in_place(func, args, kwargs)))
            args = args if replaced is None else replaced
        output = func(*args, **kwargs)
        if not tensors_in(output):
            return output
        call = OperationCall(frame.name, name, frame.counts[name], args, kwargs, output)
        frame.counts[name] += 1
        replacement = self._on_call(call)
        return output if replacement is None else replacement


def _public_name(func: Any) -> str | None:
    """`relu` for `relu_`, `add` for `__iadd__`; None for attributes."""
    name: str = getattr(func, "__name__", "")
    if name in ("", "__get__", "__set__", "__delete__"):
        return None
    dunder = _DUNDER.fullmatch(name)
    word = name.strip("_") if dunder is None else dunder["word"]
    if dunder and word[0] in "ir" and word[1:] in _REFLECTED:
        word = word[1:]
    return _WORDS.get(word, word)


def _is_in_place(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if not args or not isinstance(args[0], Tensor):
        return False
    name: str = func.__name__
    dunder = _DUNDER.fullmatch(name)
    if dunder is not None:
        return dunder["word"][0] == "i" and dunder["word"][1:] in _REFLECTED
    writes = name.endswith("_") and not name.endswith("__")
    return (writes or kwargs.get("inplace") is True) and name not in _RESHAPING
