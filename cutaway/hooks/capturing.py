"""Recording what a network's layers return while it runs."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from cutaway.errors import InspectionError


@dataclass(frozen=True)
class Call:
    """One call of one layer.

    Attributes:
        layer: The layer's dotted name in the network.
        index: 0 for the layer's first call, 1 for its second, and so on.
        output: What the layer returned, with every tensor copied at that moment.
        inputs: Positional arguments as they were before the call; empty unless asked for.
        keyword_inputs: Keyword arguments likewise.
    """

    layer: str
    index: int
    output: Any
    inputs: tuple[Any, ...] = ()
    keyword_inputs: Mapping[str, Any] | None = None

    @property
    def tensor(self) -> Tensor:
        """The output, for a layer that returns one tensor."""
        if not isinstance(self.output, Tensor):
            raise InspectionError(
                f"Layer {self.layer!r} returns a {type(self.output).__name__}, not one tensor.",
                hint="Take what you need from `.output`, or choose a layer inside it.",
            )
        return self.output


class Capture:
    """What the chosen layers returned, in the order in which their calls ended.

    `captured["conv1"]` is the output of a layer that was called once; `captured.calls("relu")` are all of a layer's
    calls. It stays readable after the `with` block.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._calls: list[Call] = []

    @property
    def layers(self) -> tuple[str, ...]:
        """The names that were asked for, in the network's order."""
        return tuple(self._names)

    @property
    def all_calls(self) -> tuple[Call, ...]:
        """Every call of every chosen layer, in the order in which they ended."""
        return tuple(self._calls)

    def calls(self, layer: str) -> tuple[Call, ...]:
        """All calls of one layer, first to last; empty where it was never called."""
        if layer not in self._names:
            raise _no_such_layer(layer, self._names, "captured")
        return tuple(call for call in self._calls if call.layer == self._names[layer])

    def call(self, layer: str) -> Call:
        """The only call of a layer.

        Raises:
            InspectionError: The layer was not called, or more than once.
        """
        calls = self.calls(layer)
        if not calls:
            raise InspectionError(
                f"Layer {layer!r} was not called.",
                hint="Run the network inside the `with` block; a layer that its forward pass skips has no output.",
            )
        if len(calls) > 1:
            raise InspectionError(
                f"Layer {layer!r} was called {len(calls)} times.", hint=f"Choose one: `.calls({layer!r})[0]`."
            )
        return calls[0]

    def __getitem__(self, layer: str) -> Any:
        return self.call(layer).output

    def __contains__(self, layer: object) -> bool:
        return layer in self._names

    def gradient(self, of: Tensor, layer: str, *, retain_graph: bool = False) -> Tensor:
        """The gradient of a scalar at the output of a layer that was called once, and of nothing below it.

        Args:
            of: A scalar that the network's output leads to, e.g. `logits[:, 3].sum()`.
            layer: A layer captured with `gradients=True`.
            retain_graph: Keep the graph for another gradient.

        Returns:
            A tensor of the shape of the layer's output. No `.grad` of any parameter is written.

        Raises:
            InspectionError: There is no way from `of` back to the layer.
        """
        tensor = self.call(layer).tensor
        if not tensor.requires_grad or not of.requires_grad:
            raise InspectionError(
                f"There is no gradient at layer {layer!r}: the network ran without autograd.",
                hint="Use `capture(..., gradients=True)`, with no `no_grad` or `detach` inside its block.",
            )
        (gradient,) = torch.autograd.grad(of, tensor, retain_graph=retain_graph, allow_unused=True)
        if gradient is None:
            raise InspectionError(
                f"The output does not depend on layer {layer!r}.",
                hint="Choose a layer on the way from the input to the output.",
            )
        return gradient


@contextmanager
def capture(
    network: nn.Module,
    layers: str | Iterable[str] | None = None,
    *,
    inputs: bool = False,
    gradients: bool = False,
) -> Iterator[Capture]:
    """Records what layers return while the network runs inside the block.

    Every tensor is copied at the moment the layer returns, so an in-place operation after it changes nothing. The
    hooks are removed when the block ends, also by an exception. Operations that are no module (`F.relu`) have no
    output here.

    Args:
        network: Any module.
        layers: Names as in `network.named_modules()`, or globs such as `layer4.*`; all modules without children if
            None.
        inputs: Also record the layers' arguments, copied before the call.
        gradients: Keep the way from the outputs back to the layers, for `Capture.gradient`. The block then runs
            with autograd on, also inside `no_grad` and with frozen weights.

    Yields:
        The capture, filled call by call.

    Raises:
        InspectionError: A name matches nothing, or gradients are asked for under `inference_mode`.

    Example:
        >>> with capture(network, "layer4") as captured:
        ...     logits = network(images)
        >>> captured["layer4"].shape
    """
    if gradients and torch.is_inference_mode_enabled():
        raise _no_autograd("inference_mode")
    chosen, names = _choose(network, layers)
    captured = Capture(names)
    handles: list[RemovableHandle] = []
    recorders = [_Recorder(name, captured, gradients) for name, _ in chosen]
    try:
        for recorder, (_, module) in zip(recorders, chosen, strict=True):
            if inputs:
                handles.append(module.register_forward_pre_hook(recorder.before, with_kwargs=True))
            handles.append(module.register_forward_hook(recorder.after))
        with torch.set_grad_enabled(gradients or torch.is_grad_enabled()):
            yield captured
    finally:
        for handle in handles:
            handle.remove()


def map_tensors(function: Callable[[Tensor], Any], structure: Any) -> Any:
    """Applies a function to every tensor in nested tuples, lists and dictionaries, and keeps their types."""
    if isinstance(structure, Tensor):
        return function(structure)
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(map_tensors(function, item) for item in structure))
    if type(structure) in (tuple, list):
        return type(structure)(map_tensors(function, item) for item in structure)
    if isinstance(structure, dict):
        mapped = {key: map_tensors(function, item) for key, item in structure.items()}
        return mapped if type(structure) is dict else type(structure)(mapped)
    return structure


class _Recorder:
    """The hooks of one layer."""

    def __init__(self, layer: str, captured: Capture, gradients: bool) -> None:
        self._layer = layer
        self._captured = captured
        self._gradients = gradients
        self._count = 0
        self._pending: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        copied = map_tensors(_copied, args), map_tensors(_copied, kwargs)
        self._pending.append(copied)

    def after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        inputs, keyword_inputs = self._pending.pop() if self._pending else ((), None)
        kept = map_tensors(_leading_back if self._gradients else _copied, output)
        self._captured._calls.append(Call(self._layer, self._count, kept, inputs, keyword_inputs))
        self._count += 1
        # The network goes on with a copy of its own: the graph leads through the kept tensor, and nothing that comes
        # later can write into it.
        return map_tensors(_passed_on, kept) if self._gradients else None


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


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


def _no_autograd(mode: str) -> InspectionError:
    return InspectionError(
        f"Gradients cannot be captured where the network runs under torch.{mode}.",
        hint=f"Run it outside `{mode}`.",
    )


def _choose(
    network: nn.Module, layers: str | Iterable[str] | None
) -> tuple[list[tuple[str, nn.Module]], dict[str, str]]:
    """The modules to watch, each once, and every chosen name with the name its module is recorded under."""
    if layers is None:
        leaves = [
            (name, module) for name, module in network.named_modules() if not any(True for _ in module.children())
        ]
        return leaves, {name: name for name, _ in leaves}
    modules = dict(network.named_modules(remove_duplicate=False))
    wanted: set[str] = set()
    for pattern in [layers] if isinstance(layers, str) else layers:
        matching = {pattern} if pattern in modules else set(fnmatch.filter(modules, pattern))
        if not matching:
            raise _no_such_layer(pattern, modules, "in this network")
        wanted |= matching
    recorded: dict[nn.Module, str] = {}
    names = {name: recorded.setdefault(module, name) for name, module in modules.items() if name in wanted}
    return [(name, module) for module, name in recorded.items()], names


def _no_such_layer(name: str, known: Iterable[str], where: str) -> InspectionError:
    known = [candidate for candidate in known if candidate]
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5) or known[:5]
    return InspectionError(
        f"No layer {name!r} {where}.",
        hint=f"Did you mean {', '.join(map(repr, near))}?" if near else "It has no named layers.",
    )
