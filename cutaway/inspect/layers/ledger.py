"""Booking what a network does, while it runs, to the module or operation that does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from cutaway.hooks import map_tensors
from cutaway.inspect.layers.receptive_fields import FieldTracker, ReceptiveField
from cutaway.inspect.layers.rows import Shape


@dataclass
class Account:
    """What was noted of one module or operation; the fields mean what they mean in `LayerRow`."""

    order: int | None = None
    operation: str | None = None
    calls: int = 0
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    dtype: str | None = None
    field: ReceptiveField | None = None
    macs: int = 0
    activation_bytes: int = 0
    computes: bool = False

    def note(self, inputs: Any) -> None:
        """One more call."""
        if self.calls == 0:
            self.input_shapes = shapes_in(inputs)
        self.calls += 1


@dataclass
class Ledger:
    """Books all work to the innermost module that is running, or to the operation of its that did it."""

    accounts: dict[str, Account] = field(default_factory=dict)
    _running: list[str] = field(default_factory=list)
    _fields: FieldTracker = field(default_factory=FieldTracker)
    _counter: FlopCounterMode = field(default_factory=lambda: FlopCounterMode(display=False))
    _booked: int = 0
    _written: int = 0
    _computed: bool = False

    def clear(self) -> None:
        """Forgets everything, for a run that begins anew."""
        self.accounts.clear()
        self._running.clear()
        self._fields = FieldTracker()
        self._written, self._computed = 0, False
        self._booked = self._counter.get_total_flops()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts what runs inside the block."""
        with ExitStack() as modes:
            modes.enter_context(self._counter)
            modes.enter_context(_Watching(self._see))
            yield

    def watch(self, name: str, module: nn.Module) -> None:
        """Puts hooks on a module, which are the caller's to remove."""
        module.register_forward_pre_hook(self._entering(name), with_kwargs=True)
        # Also where it fails: some networks catch that and go on.
        module.register_forward_hook(self._leaving(name), with_kwargs=True, always_call=True)

    def operation(self, name: str, kind: str, inputs: Any, output: Any) -> None:
        """Books what was done since the last booking to an operation that has just ended."""
        account = self.accounts.setdefault(name, Account(order=len(self.accounts), operation=kind))
        account.note(inputs)
        self._book(account)
        self._describe(account, output)

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self._running:
                self._book(self.accounts[self._running[-1]])
            else:
                map_tensors(self._fields.begin, (args, kwargs))
            account = self.accounts.setdefault(name, Account(order=len(self.accounts)))
            account.note((args, kwargs))
            self._running.append(name)

        return hook

    def _leaving(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if not self._running:
                return
            account = self.accounts[self._running.pop()]
            self._book(account)
            self._describe(account, output)

        return hook

    def _describe(self, account: Account, output: Any) -> None:
        if account.output_shapes:
            return
        account.output_shapes = shapes_in(output)
        tensors: list[Tensor] = []
        map_tensors(tensors.append, output)
        if tensors:
            account.dtype = str(tensors[0].dtype).removeprefix("torch.")
            account.field = self._fields.field(tensors[0])

    def _book(self, account: Account) -> None:
        total = self._counter.get_total_flops()
        account.macs += (total - self._booked) // 2
        account.activation_bytes += self._written
        account.computes |= self._computed
        self._booked, self._written, self._computed = total, 0, False

    def _see(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        self._fields.follow(func, args, kwargs, output)
        if not self._running:
            return
        returned = output if isinstance(output, tuple) else (output,)
        for tensor, declared in zip(returned, func._schema.returns, strict=False):
            # A return with alias information is a view of an argument, or an argument written in place.
            if isinstance(tensor, Tensor) and declared.alias_info is None:
                self._written += tensor.numel() * tensor.element_size()
                self._computed = True
        self._computed |= func._schema.is_mutable


def shapes_in(structure: Any) -> tuple[Shape, ...]:
    """The shapes of all tensors in nested tuples, lists and dictionaries."""
    found: list[Shape] = []
    map_tensors(lambda tensor: found.append(tuple(tensor.shape)), structure)
    return tuple(found)


class _Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Shows every operation that runs."""

    def __init__(self, see: Callable[..., None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._see = see

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self._see(func, args, kwargs or {}, output)
        return output
