"""The per-layer table: shapes, parameters, multiply-accumulates, memory and receptive field of every module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn

from cutaway.errors import InspectionError, NetworkError
from cutaway.hooks import OperationCall, named_modules, run_on_inputs, untouched, watch_operations, without_values
from cutaway.inspect.layers.ledger import Account, Ledger, shapes_in
from cutaway.inspect.layers.rows import LayerRow, LayerTable, Shape, sums


def layer_table(
    network: nn.Module,
    input_shape: Shape | Sequence[Shape] | None = None,
    batch_size: int = 1,
    *,
    inputs: Any = None,
    operations: bool = True,
) -> LayerTable:
    """Describes every module of a network, and the operations between them, as it runs in evaluation mode.

    The network runs on shapes alone, so a large network or batch costs neither memory nor time; it is left as it was.
    One that needs values runs once on zeros. A convolution's multiply-accumulate is one multiplication and one
    addition: half of what PyTorch's `FlopCounterMode`, which does the counting, calls FLOPs.

    Args:
        network: Any module.
        input_shape: Of one sample, without the batch: channels, height and width for pictures; or several such
            shapes, for a network that takes several tensors.
        batch_size: Samples in the batch; scales multiply-accumulates and activations.
        inputs: In place of `input_shape`, example inputs with their batch: a tuple of what the network takes by
            position, a mapping of what it takes by name, or else its one argument.
        operations: Give what modules call but is no module (`F.relu`, `+`) rows of its own; otherwise it counts to the
            module that calls it.

    Returns:
        The table.

    Raises:
        NetworkError: The network cannot run on these inputs.
        InspectionError: There is not one of `input_shape` and `inputs`, or a shape holds tensors.
    """
    args, kwargs = arguments_of(network, input_shape, batch_size, inputs)
    modules = named_modules(network)
    ledger = Ledger()
    with untouched(network):
        for name, module in modules.items():
            ledger.watch(name, module)
        watching = watch_operations(network, _booking(ledger)) if operations else nullcontext()
        with told_of_batch(input_shape), ledger.counting(), watching:
            run_on_inputs(network, args, kwargs, ledger.clear)
    names = [*modules, *(name for name, account in ledger.accounts.items() if account.operation)]
    names.sort(key=_calling_order(names, ledger.accounts))
    counted: dict[int, str] = {}
    rows = tuple(
        _module_row(name, modules, ledger.accounts.get(name, Account()), counted)
        if name in modules
        else _operation_row(name, ledger.accounts[name], modules)
        for name in names
    )
    return LayerTable(
        network=type(network).__name__,
        input_shapes=shapes_in((args, kwargs)),
        batch_size=batch_size if inputs is None else None,
        rows=rows,
        totals=sums(rows),
    )


def arguments_of(
    network: nn.Module, input_shape: Shape | Sequence[Shape] | None, batch_size: int, inputs: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What to call a network with, by position and by name; see `layer_table`.

    Raises:
        InspectionError: There is not one of `input_shape` and `inputs`, or a shape holds tensors.
    """
    if (input_shape is None) == (inputs is None):
        raise InspectionError("Give either the shape of an input or example inputs.")
    if input_shape is not None:
        if isinstance(input_shape, Tensor) or any(isinstance(each, Tensor) for each in input_shape):
            raise InspectionError(
                "A shape is numbers, not tensors.", hint="Give example tensors, with their batch, as `inputs=`."
            )
        several = input_shape if any(isinstance(each, Sequence) for each in input_shape) else [input_shape]
        return tuple(without_values(network, (batch_size, *shape)) for shape in several), {}  # type: ignore[misc]
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


@contextmanager
def told_of_batch(input_shape: Shape | Sequence[Shape] | None) -> Iterator[None]:
    """Where a network refuses a shape of four or more numbers, says that the batch is none of them."""
    try:
        yield
    except NetworkError as error:
        shape = tuple(input_shape or ())
        if len(shape) < 4 or not all(isinstance(number, int) for number in shape):
            raise
        hint = f"`input_shape` is one sample's: leave the batch out, as in {shape[1:]}."
        raise NetworkError(error.message, hint=f"{error.hint} {hint}".strip()) from error


def _booking(ledger: Ledger) -> Callable[[OperationCall], None]:
    def book(call: OperationCall) -> None:
        ledger.operation(call.name, call.operation, (call.args, call.kwargs), call.output)

    return book


def _calling_order(names: list[str], accounts: dict[str, Account]) -> Callable[[str], tuple[int, int]]:
    """Sorts by first call; a module that is never called stands where the first module inside it does, or last."""
    last = len(accounts)
    earliest: dict[str, int] = {}
    for called, account in accounts.items():
        path = called.rpartition(":")[0] if account.operation else called
        order = last if account.order is None else account.order
        earliest[called] = order
        while True:
            earliest[path] = min(order, earliest.get(path, last))
            if not path:
                break
            path = path.rpartition(".")[0]
    keys = {name: (earliest.get(name, last), position) for position, name in enumerate(names)}
    for name in reversed(names):
        # Weights that the module around them uses stand right behind it.
        parent = name.rpartition(".")[0]
        if keys[name][0] == last and parent in keys:
            keys[name] = (keys[parent][0], keys[name][1])
    return keys.__getitem__


def _module_row(name: str, modules: Mapping[str, nn.Module], account: Account, counted: dict[int, str]) -> LayerRow:
    module = modules[name]
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
    own = next(_own_tensors(module), None)
    return _row(
        name,
        type(module).__name__,
        account,
        depth=0 if not name else name.count(".") + 1,
        is_leaf=not any(True for _ in module.children()),
        dtype=account.dtype if own is None else str(own.dtype).removeprefix("torch."),
        device=_device(name, modules),
        trainable=trainable,
        frozen=frozen,
        shared_with=shared_with,
        buffers=buffers,
        stored_bytes=stored,
    )


def _operation_row(name: str, account: Account, modules: Mapping[str, nn.Module]) -> LayerRow:
    module = name.rpartition(":")[0]
    return _row(
        name,
        account.operation or "",
        account,
        depth=1 if not module else module.count(".") + 2,
        is_leaf=True,
        dtype=account.dtype,
        device=_device(module, modules),
    )


def _row(
    name: str,
    kind: str,
    account: Account,
    *,
    depth: int,
    is_leaf: bool,
    dtype: str | None,
    device: str | None,
    trainable: int = 0,
    frozen: int = 0,
    shared_with: str | None = None,
    buffers: int = 0,
    stored_bytes: int = 0,
) -> LayerRow:
    seen = account.field
    return LayerRow(
        name=name,
        kind=kind,
        depth=depth,
        is_leaf=is_leaf,
        is_operation=account.operation is not None,
        is_view=account.operation is not None and not account.computes,
        order=account.order,
        calls=account.calls,
        input_shapes=account.input_shapes,
        output_shapes=account.output_shapes,
        dtype=dtype,
        device=device,
        receptive_field=None if seen is None else seen.size,
        field_stride=None if seen is None else seen.stride,
        field_offset=None if seen is None else seen.offset,
        trainable=trainable,
        frozen=frozen,
        shared_with=shared_with,
        buffers=buffers,
        stored_bytes=stored_bytes,
        macs=account.macs,
        activation_bytes=account.activation_bytes,
    )


def _device(name: str, modules: Mapping[str, nn.Module]) -> str | None:
    """Where a module's own tensors lie, or those of the nearest module around it, or the network's first."""
    while True:
        own = next(_own_tensors(modules[name]), None) if name in modules else None
        if own is None and not name:
            own = next(modules[""].parameters(), None)
        if own is not None or not name:
            return None if own is None else str(own.device)
        name = name.rpartition(".")[0]


def _own_tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)
