"""Recording what a network's layers and operations return while it runs."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.hooks.captured import Call, Capture, no_such_operation
from cutaway.hooks.naming import all_modules, is_compiled, named_modules
from cutaway.hooks.operations import OperationCall, OperationStart, unobserved, watch_operations
from cutaway.hooks.selecting import Layers, Selection, has_wildcard, is_any_operation, is_meant, select
from cutaway.hooks.shape_runs import without_attention_fast_path
from cutaway.hooks.statistics import StreamingStatistics
from cutaway.hooks.structures import map_tensors, tensors_in

Keep = Literal["tensors", "stats"] | Callable[[Tensor], Any]


@contextmanager
def capture(
    network: nn.Module,
    layers: Layers = None,
    *,
    inputs: bool = False,
    gradients: bool = False,
    keep: Keep = "tensors",
    device: torch.device | str | None = None,
    on_call: Callable[[Call], None] | None = None,
    inside_leaves: bool = False,
) -> Iterator[Capture]:
    """Records what layers return while the network runs inside the block.

    Every tensor is copied at the moment the layer returns, so an in-place operation after it changes nothing. The
    hooks are removed when the block ends, also by an exception. Blocks can be nested.

    Operations that are no module (`F.relu`, `torch.flatten`, `+`) are asked for by `module.path:operation#k`, where k
    counts the operations of that name in one call of the module: `layer1.0:add#0`, `*:relu#*`; `captured.operations`
    lists those that ran.

    Names are the author's own, also where the network is wrapped for parallel work. What torch.compile made runs
    uncompiled inside the block, since compiled code calls neither hooks nor watched operations.

    Args:
        network: Any module.
        layers: Names as in `network.named_modules()`, patterns such as `layer4.*` (`*` is every module), types such as
            `nn.Conv2d`, functions of a name and a module, names and patterns of operations, or several of these. All
            modules without children if None.
        inputs: Also record the arguments, copied before the call.
        gradients: Keep the way from the outputs back to the layers, for `Capture.gradient`. The block then runs
            with autograd on, also inside `no_grad` and with frozen weights.
        keep: The tensors themselves; `"stats"` for `Capture.statistics` over all calls instead, in constant memory; or
            a function, whose answer takes each tensor's place. It gets the tensor itself, detached but not copied, and
            must not write into it.
        device: Where kept tensors are moved, such as `"cpu"`; where they are if None.
        on_call: Told of each call, which then is not kept.
        inside_leaves: Let patterns of operations match also what modules without children do, such as the one
            operation of `nn.ReLU`.

    Yields:
        The capture, filled call by call.

    Raises:
        InspectionError: A choice matches nothing; for an operation this shows when the block ends, if the network ran.
            Or gradients are asked for under `inference_mode` or of something else than tensors.

    Warns:
        UserWarning: A pattern of operations matched none that ran, while something else was captured.

    Example:
        >>> with capture(network, ["layer4", "layer4.*:add#*"]) as captured:
        ...     logits = network(images)
        >>> captured["layer4"].shape, captured["layer4.0:add#0"].shape
    """
    if keep not in ("tensors", "stats") and not callable(keep):
        raise InspectionError(
            f'keep is "tensors", "stats" or a function of a tensor, not {keep!r}.',
            hint="A function such as `keep=lambda tensor: tensor.mean()` keeps its answers.",
        )
    if gradients and torch.is_inference_mode_enabled():
        raise _no_autograd("inference_mode")
    if gradients and keep != "tensors":
        raise InspectionError("Gradients are taken at tensors.", hint='Use keep="tensors" with gradients=True.')
    if inputs and keep == "stats" and on_call is None:
        raise InspectionError("Statistics are of outputs alone.", hint='Use keep="tensors" with inputs=True.')
    chosen = select(network, layers)
    captured = Capture(chosen.names, has_only_statistics=keep == "stats")
    recorder = _Recorder(network, chosen, captured, gradients, inputs, keep, device, on_call)
    with ExitStack() as stack:
        # Last out: the hooks of operations must stand around those of the layers.
        stack.enter_context(torch.set_grad_enabled(gradients or torch.is_grad_enabled()))
        stack.enter_context(without_attention_fast_path())
        stack.enter_context(
            torch.compiler.set_stance("force_eager") if is_compiled(all_modules(network)) else nullcontext()
        )
        stack.callback(_detach, network, list(network.buffers()), {id(b) for b in network.buffers() if b.requires_grad})
        for name, module in named_modules(network).items():
            entering = recorder.enters_network if name == "" else recorder.enters
            stack.callback(module.register_forward_pre_hook(entering, prepend=True).remove)
            stack.callback(module.register_forward_hook(recorder.leaves, always_call=True).remove)
            if name == "":
                stack.callback(module.register_forward_hook(recorder.ran).remove)
        for name, module in chosen.modules.items():
            if inputs:
                before = module.register_forward_pre_hook(recorder.before(name), with_kwargs=True)
                stack.callback(before.remove)
            stack.callback(module.register_forward_hook(recorder.after(name)).remove)
        if chosen.operations:
            stack.enter_context(
                watch_operations(
                    network, recorder.operation_ended, on_start=recorder.operation_starts, inside_leaves=inside_leaves
                )
            )
        yield captured
        unmatched = recorder.operations_that_never_ran()
    if unmatched:
        _tell_unmatched(unmatched, captured.operations, recorder.has_recorded)


class _Recorder:
    """The hooks of all layers of one capture."""

    def __init__(
        self,
        network: nn.Module,
        chosen: Selection,
        captured: Capture,
        gradients: bool,
        inputs: bool,
        keep: Keep,
        device: torch.device | str | None,
        on_call: Callable[[Call], None] | None,
    ) -> None:
        self._chosen = chosen
        self._captured = captured
        self._gradients = gradients
        self._inputs = inputs
        self._keep = keep
        self._device = device
        self._on_call = on_call
        self._counts: Counter[str] = Counter()
        self._turns: Counter[str] = Counter()
        self._depth = 0
        self._has_run = False
        self._own = {id(tensor) for tensor in (*network.buffers(), *network.parameters())}
        self._pending: dict[str, list[tuple[Any, Any]]] = {}
        self._starting: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self._written_over: Tensor | None = None

    def enters_network(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._depth = 0
        self.enters(module, args)

    def enters(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        # A part of the network that is run by itself begins a run too.
        if self._depth == 0:
            self._turns.clear()
            self._pending.clear()
        self._depth += 1

    def leaves(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._depth = max(self._depth - 1, 0)

    def ran(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._has_run = True

    @property
    def has_recorded(self) -> bool:
        """Whether anything was called that is watched."""
        return bool(self._counts)

    def operations_that_never_ran(self) -> list[str]:
        """Names and patterns that matched nothing, where the network ran to its end; none where it did not."""
        if not self._has_run:
            return []
        known = self._captured.operations
        return [
            asked
            for pattern, asked in self._chosen.operations.items()
            if not is_any_operation(pattern) and not any(is_meant(name, pattern) for name in known)
        ]

    def before(self, layer: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            with unobserved():
                self._pending.setdefault(layer, []).append((self._kept(args), self._kept(kwargs)))

        return hook

    def after(self, layer: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            with unobserved():
                pending = self._pending.get(layer)
                return self._record(layer, output, pending.pop() if pending else ((), None))

        return hook

    def operation_starts(self, start: OperationStart) -> tuple[Any, ...] | None:
        self._written_over = None
        if not self._chosen.has_operation(start.name):
            return None
        with unobserved():
            if self._inputs:
                self._starting = self._kept(start.args), self._kept(start.kwargs)
            if not (self._gradients and start.is_in_place and torch.is_grad_enabled()):
                return None
            target: Tensor = start.args[0]
            if id(target) in self._own or not target.is_floating_point():
                return None
            # The operation writes into a copy, which then is copied into the tensor: so the graph leads through what
            # is kept, and whoever else holds the tensor sees the result as ever.
            self._written_over = target
            return (target.clone(), *start.args[1:])

    def operation_ended(self, call: OperationCall) -> Any:
        self._captured._operations.setdefault(call.name)
        if not self._chosen.has_operation(call.name):
            return None
        for name in (call.name, self._chosen.operations.get(call.name, call.name)):
            self._captured._names.setdefault(name, call.name)
        inputs = self._starting if self._inputs else ((), None)
        with unobserved():
            is_followed = self._gradients and torch.is_grad_enabled()
            if is_followed and self._written_over is None and any(id(t) in self._own for t in tensors_in(call.output)):
                is_followed = False
            passed_on = self._record(call.name, call.output, inputs, is_followed=is_followed)
            if self._written_over is not None:
                self._written_over.copy_(passed_on)
                return self._written_over
            return passed_on

    def _record(self, layer: str, output: Any, inputs: tuple[Any, Any], *, is_followed: bool | None = None) -> Any:
        follow = self._gradients if is_followed is None else is_followed
        source = map_tensors(_leading_back, output) if follow else None
        if self._keep == "stats":
            kept = None
            self._add_statistics(layer, output)
        elif not follow:
            kept = self._kept(output)
        else:
            kept = source if self._device is None else map_tensors(self._moved, source)
        index, turn = self._counts[layer], self._turns[layer]
        self._counts[layer] += 1
        self._turns[layer] += 1
        if self._keep != "stats" or self._on_call is not None:
            call = Call(layer, index, kept, *inputs, turn=turn, _source=source)
            (self._captured._calls.append if self._on_call is None else self._on_call)(call)
        # The network goes on with a copy of its own: the graph leads through the kept tensor, and nothing that comes
        # later can write into it.
        return map_tensors(_passed_on, source) if follow else None

    def _add_statistics(self, layer: str, output: Any) -> None:
        label = Call(layer, 0, None, turn=self._turns[layer]).label
        for tensor in tensors_in(output):
            if tensor.is_floating_point():
                self._captured._streams.setdefault(label, StreamingStatistics()).update(tensor)

    def _kept(self, structure: Any) -> Any:
        if callable(self._keep):
            keep = self._keep
            return map_tensors(lambda tensor: keep(tensor.detach()), structure)
        return map_tensors(self._moved, structure)

    def _moved(self, tensor: Tensor) -> Tensor:
        # Outside inference mode, so that what is kept is a tensor like any other.
        with torch.inference_mode(False), torch.no_grad():
            copied = tensor.detach().clone()
            return copied if self._device is None else copied.to(self._device)


def _tell_unmatched(unmatched: list[str], ran: tuple[str, ...], has_recorded: bool) -> None:
    names = [name for name in unmatched if not has_wildcard(name)]
    if names:
        raise no_such_operation(names[0], ran)
    if not has_recorded:
        raise no_such_operation(unmatched[0], ran)
    for pattern in unmatched:
        warnings.warn(str(no_such_operation(pattern, ran)), stacklevel=4)


def _leading_back(tensor: Tensor) -> Tensor:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor.clone()
    if torch.is_inference_mode_enabled():
        raise _no_autograd("inference_mode")
    if not torch.is_grad_enabled():
        raise _no_autograd("no_grad")
    return tensor.clone() if tensor.requires_grad else tensor.clone().requires_grad_()


def _passed_on(tensor: Tensor) -> Tensor:
    return tensor.clone()


def _detach(network: nn.Module, before: list[Tensor], followed: set[int]) -> None:
    """Takes out of the graph what the network wrote into its buffers of what was captured, or put in their place."""
    for buffer in before:
        if buffer.requires_grad and id(buffer) not in followed:
            buffer.detach_()
    for module in network.modules():
        for name, present in module._buffers.items():
            if present is not None and present.requires_grad and id(present) not in followed:
                # Not in place: it may be the very tensor that was captured.
                module._buffers[name] = present.detach()


def _no_autograd(mode: str) -> InspectionError:
    return InspectionError(
        f"Gradients cannot be captured where the network runs under torch.{mode}.",
        hint=f"Run it outside `{mode}`.",
    )
