"""The per-layer table: shapes, parameters, multiply-accumulates and memory of every module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from cutaway.hooks import map_tensors, run_on_shapes, untouched

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerRow:
    """One module, with what is its own: the modules inside it have rows of their own, so that columns add up.

    Attributes:
        name: Dotted name; empty for the network itself.
        kind: The module's class.
        depth: 0 for the network, 1 for its children, and so on.
        is_leaf: Whether it has no modules inside.
        order: Position among the first calls, with 0 for the network itself; None where its `forward` is never called
            (a container, or weights that the module around it uses).
        calls: How often it is called.
        input_shapes: Of the tensors it takes at its first call.
        output_shapes: Of the tensors it returns at its first call.
        trainable: Numbers in its own parameters that require a gradient.
        frozen: Numbers in its own parameters that don't.
        shared_with: The row that already counts parameters which this module uses too.
        buffers: Numbers in its own buffers.
        stored_bytes: Bytes of its own parameters and buffers.
        macs: Multiply-accumulates of its own operations over all calls, also of those that are no module.
        activation_bytes: Bytes that its own operations newly write over all calls; views and in-place operations cost
            none.
    """

    name: str
    kind: str
    depth: int
    is_leaf: bool
    order: int | None
    calls: int
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    trainable: int
    frozen: int
    shared_with: str | None
    buffers: int
    stored_bytes: int
    macs: int
    activation_bytes: int

    @property
    def parameters(self) -> int:
        """Trainable and frozen together."""
        return self.trainable + self.frozen

    @property
    def has_own(self) -> bool:
        """Whether the row counts anything, or is a layer that runs."""
        counted = self.parameters or self.buffers or self.macs or self.activation_bytes or self.shared_with
        return bool(counted) or (self.is_leaf and self.calls > 0)


@dataclass(frozen=True)
class LayerTotals:
    """Sums over all rows; the fields mean what they mean in `LayerRow`."""

    trainable: int
    frozen: int
    buffers: int
    stored_bytes: int
    macs: int
    activation_bytes: int

    @property
    def parameters(self) -> int:
        """Trainable and frozen together."""
        return self.trainable + self.frozen


@dataclass(frozen=True)
class LayerTable:
    """A network, layer by layer.

    Attributes:
        network: The network's class.
        input_shape: With the batch: [N, C, H, W].
        rows: One per module, in the order in which they are first called, each after the module around it.
        totals: Sums over the rows.
    """

    network: str
    input_shape: Shape
    rows: tuple[LayerRow, ...]
    totals: LayerTotals


def layer_table(network: nn.Module, input_shape: tuple[int, ...], batch_size: int = 1) -> LayerTable:
    """Describes every module of a network as it runs in evaluation mode.

    The network runs on shapes alone, so a large network or batch costs neither memory nor time; it is left as it was.
    A convolution's multiply-accumulate is one multiplication and one addition: half of what PyTorch's
    `FlopCounterMode`, which does the counting, calls FLOPs.

    Args:
        network: Any module that takes one tensor.
        input_shape: Of one sample, without the batch: channels, height and width for pictures.
        batch_size: Samples in the batch; scales multiply-accumulates and activations.

    Returns:
        The table.

    Raises:
        NetworkError: The network cannot run on this shape.
    """
    shape = (batch_size, *input_shape)
    modules = dict(network.named_modules())
    ledger = _Ledger()
    with untouched(network):
        for name, module in modules.items():
            module.register_forward_pre_hook(ledger.entering(name), with_kwargs=True)
            module.register_forward_hook(ledger.leaving(name), with_kwargs=True)
        with ledger.counting():
            run_on_shapes(network, shape, ledger.clear)
    names = sorted(modules, key=_calling_order(list(modules), ledger.accounts))
    counted: dict[int, str] = {}
    rows = tuple(_row(name, modules[name], ledger.accounts.get(name, _Account()), counted) for name in names)
    return LayerTable(type(network).__name__, shape, rows, _totals(rows))


@dataclass
class _Account:
    """What was noted of one module."""

    order: int | None = None
    calls: int = 0
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    macs: int = 0
    activation_bytes: int = 0


@dataclass
class _Ledger:
    """Books every operation to the innermost module that is running."""

    accounts: dict[str, _Account] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    _counter: FlopCounterMode = field(default_factory=lambda: FlopCounterMode(display=False))
    _booked: int = 0

    def clear(self) -> None:
        self.accounts.clear()
        self.running.clear()
        self._book_macs()

    @contextmanager
    def counting(self) -> Iterator[None]:
        with self._counter, _Allocations(self._book_bytes):
            yield

    def entering(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._book_macs()
            account = self.accounts.setdefault(name, _Account(order=len(self.accounts)))
            if account.calls == 0:
                account.input_shapes = _shapes((args, kwargs))
            account.calls += 1
            self.running.append(name)

        return hook

    def leaving(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            self._book_macs()
            self.running.pop()
            if not self.accounts[name].output_shapes:
                self.accounts[name].output_shapes = _shapes(output)

        return hook

    def _book_macs(self) -> None:
        total = self._counter.get_total_flops()
        if self.running:
            self.accounts[self.running[-1]].macs += (total - self._booked) // 2
        self._booked = total

    def _book_bytes(self, size: int) -> None:
        if self.running:
            self.accounts[self.running[-1]].activation_bytes += size


class _Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Reports the bytes of every tensor that an operation newly writes."""

    def __init__(self, book: Callable[[int], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._book = book

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        returned = output if isinstance(output, tuple) else (output,)
        for tensor, declared in zip(returned, func._schema.returns, strict=False):
            # A return with alias information is a view of an argument, or an argument written in place.
            if isinstance(tensor, Tensor) and declared.alias_info is None:
                self._book(tensor.numel() * tensor.element_size())
        return output


def _shapes(structure: Any) -> tuple[Shape, ...]:
    found: list[Shape] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tuple(tensor.shape))
        return tensor

    map_tensors(note, structure)
    return tuple(found)


def _calling_order(names: list[str], accounts: dict[str, _Account]) -> Callable[[str], tuple[int, int]]:
    """Sorts by first call; a module that is never called stands where the first module inside it does, or last."""
    last = len(accounts)
    keys: dict[str, tuple[int, int]] = {}
    for position, name in enumerate(names):
        orders = [
            account.order
            for called, account in accounts.items()
            if account.order is not None and (called == name or not name or called.startswith(name + "."))
        ]
        keys[name] = (min(orders, default=last), position)
    for name in reversed(names):
        # Weights that the module around them uses stand right behind it.
        parent = name.rpartition(".")[0]
        if keys[name][0] == last and parent in keys:
            keys[name] = (keys[parent][0], keys[name][1])
    return keys.__getitem__


def _row(name: str, module: nn.Module, account: _Account, counted: dict[int, str]) -> LayerRow:
    trainable = frozen = buffers = stored = 0
    shared_with = None
    for parameter in module._parameters.values():
        if parameter is None:
            continue
        if id(parameter) in counted:
            shared_with = counted[id(parameter)]
            continue
        counted[id(parameter)] = name
        stored += parameter.numel() * parameter.element_size()
        if parameter.requires_grad:
            trainable += parameter.numel()
        else:
            frozen += parameter.numel()
    for buffer in module._buffers.values():
        if buffer is not None and id(buffer) not in counted:
            counted[id(buffer)] = name
            buffers += buffer.numel()
            stored += buffer.numel() * buffer.element_size()
    return LayerRow(
        name=name,
        kind=type(module).__name__,
        depth=0 if not name else name.count(".") + 1,
        is_leaf=not any(True for _ in module.children()),
        order=account.order,
        calls=account.calls,
        input_shapes=account.input_shapes,
        output_shapes=account.output_shapes,
        trainable=trainable,
        frozen=frozen,
        shared_with=shared_with,
        buffers=buffers,
        stored_bytes=stored,
        macs=account.macs,
        activation_bytes=account.activation_bytes,
    )


def _totals(rows: tuple[LayerRow, ...]) -> LayerTotals:
    return LayerTotals(
        trainable=sum(row.trainable for row in rows),
        frozen=sum(row.frozen for row in rows),
        buffers=sum(row.buffers for row in rows),
        stored_bytes=sum(row.stored_bytes for row in rows),
        macs=sum(row.macs for row in rows),
        activation_bytes=sum(row.activation_bytes for row in rows),
    )
