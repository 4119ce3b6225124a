"""What was recorded of a network's layers and operations while it ran."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cutaway.errors import InspectionError
from cutaway.hooks.statistics import Statistics, StreamingStatistics
from cutaway.hooks.structures import map_tensors, tensors_in


@dataclass(frozen=True)
class Call:
    """One call of one layer, or of one operation.

    Attributes:
        layer: The layer's dotted name in the network, or `module.path:operation#k`.
        index: 0 for the layer's first call, 1 for its second, and so on.
        output: What the layer returned, with every tensor copied at that moment.
        inputs: Positional arguments as they were before the call; empty unless asked for.
        keyword_inputs: Keyword arguments likewise.
        turn: The same as the index, counted anew in each run of the whole network.
    """

    layer: str
    index: int
    output: Any
    inputs: tuple[Any, ...] = ()
    keyword_inputs: Mapping[str, Any] | None = None
    turn: int = 0
    _source: Any = field(default=None, repr=False, compare=False)

    @property
    def tensor(self) -> Tensor:
        """The output, for a layer that returns one tensor."""
        return _one_tensor(self.layer, self.output)

    @property
    def label(self) -> str:
        """The layer's name, and from the second turn on which one it is: `layer1.0.relu[1]`."""
        return self.layer if self.turn == 0 else f"{self.layer}[{self.turn}]"


class Capture:
    """What the chosen layers returned, in the order in which their calls ended.

    `captured["conv1"]` is the output of a layer that was called once; `captured.calls("relu")` are all of a layer's
    calls. It stays readable after the `with` block, and goes over the names of `layers` in a loop.
    """

    def __init__(self, names: Mapping[str, str], *, has_only_statistics: bool = False) -> None:
        self._names = dict(names)
        self._has_only_statistics = has_only_statistics
        self._calls: list[Call] = []
        self._operations: dict[str, None] = {}
        self._streams: dict[str, StreamingStatistics] = {}

    @property
    def layers(self) -> tuple[str, ...]:
        """The names that were asked for, in the network's order, and then the operations asked for that ran."""
        return tuple(self._names)

    @property
    def operations(self) -> tuple[str, ...]:
        """The names of all operations that ran, where any were asked for."""
        return tuple(self._operations)

    @property
    def all_calls(self) -> tuple[Call, ...]:
        """Every call of every chosen layer, in the order in which they ended."""
        return tuple(self._calls)

    @property
    def statistics(self) -> dict[str, Statistics]:
        """With `keep="stats"`: the statistics of each layer's outputs so far, by `Call.label`."""
        return {label: stream.result() for label, stream in self._streams.items()}

    def calls(self, layer: str) -> tuple[Call, ...]:
        """All calls of one layer, first to last; empty where it was never called.

        Raises:
            InspectionError: The layer was not captured, or its statistics only.
        """
        recorded = self._recorded(layer)
        if self._has_only_statistics:
            raise InspectionError(
                f"Of layer {layer!r} there are statistics only.",
                hint=f'Read `.statistics[{recorded!r}]`, or capture with keep="tensors".',
            )
        return tuple(call for call in self._calls if call.layer == recorded)

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

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def _recorded(self, layer: str) -> str:
        if not isinstance(layer, str):
            raise InspectionError(
                f"One layer is read at a time, by its name, not by {layer!r}.",
                hint="For several: `{name: captured[name] for name in captured.layers}`.",
            )
        if layer not in self._names:
            raise no_such_layer(layer, [*self._names, *self._operations], "captured")
        return self._names[layer]

    def clear(self) -> None:
        """Forgets all calls, so that a long block holds no more than one batch; statistics go on."""
        self._calls.clear()

    def gradient(self, of: Tensor, layer: str, *, retain_graph: bool = False) -> Tensor:
        """The gradient of a scalar at the output of a layer that was called once, and of nothing below it.

        Args:
            of: A scalar that the network's output leads to, e.g. `logits[:, 3].sum()`.
            layer: A layer or operation captured with `gradients=True`.
            retain_graph: Keep the graph for another gradient.

        Returns:
            A tensor of the shape of the layer's output. No `.grad` of any parameter is written.

        Raises:
            InspectionError: There is no way from `of` back to the layer, or it is no scalar.
        """
        _require_scalar(of)
        call = self.call(layer)
        tensor = _one_tensor(layer, call.output if call._source is None else call._source)
        if not tensor.requires_grad or not of.requires_grad:
            raise _no_graph(layer)
        (gradient,) = torch.autograd.grad(of, tensor, retain_graph=retain_graph, allow_unused=True)
        if gradient is None:
            raise InspectionError(
                f"The output does not depend on layer {layer!r}.",
                hint="Choose a layer on the way from the input to the output.",
            )
        return gradient.to(call.tensor.device)

    def gradients(
        self, of: Tensor, layers: str | Iterable[str] | None = None, *, retain_graph: bool = False
    ) -> dict[str, tuple[Any, ...]]:
        """The gradients of a scalar at all calls of all layers, by one pass back from it.

        Args:
            of: A scalar that the network's output leads to.
            layers: A name or several; all that were captured if None.
            retain_graph: Keep the graph for another pass.

        Returns:
            For each layer that was called, per call what it returned with each tensor's gradient in its place: zeros
            where `of` does not depend on it, None for whole numbers and where there is no way back.

        Raises:
            InspectionError: The network ran without autograd, a layer was not captured, or `of` is no scalar.
        """
        _require_scalar(of)
        asked = self._names if layers is None else [layers] if isinstance(layers, str) else layers
        names = list(dict.fromkeys(self._recorded(name) for name in asked))
        calls = [call for call in self._calls if call.layer in names]
        sources = [call.output if call._source is None else call._source for call in calls]
        returned = [tensor for source in sources for tensor in tensors_in(source)]
        if returned and not any(tensor.is_floating_point() or tensor.is_complex() for tensor in returned):
            raise InspectionError(
                f"There is no gradient at layer {', '.join(names[:3])}: it returns no floating-point numbers.",
                hint="Choose layers that return some.",
            )
        tensors = [tensor for tensor in returned if tensor.requires_grad]
        if not tensors or not of.requires_grad:
            raise _no_graph(", ".join(names[:3]))
        found = iter(torch.autograd.grad(of, tensors, retain_graph=retain_graph, allow_unused=True))

        def next_gradient(tensor: Tensor) -> Tensor | None:
            if not tensor.requires_grad:
                return None
            gradient = next(found)
            return torch.zeros_like(tensor, requires_grad=False) if gradient is None else gradient

        by_layer: dict[str, list[Any]] = {}
        for call, source in zip(calls, sources, strict=True):
            by_layer.setdefault(call.layer, []).append(map_tensors(next_gradient, source))
        return {layer: tuple(gradients) for layer, gradients in by_layer.items()}


def no_such_layer(name: str, known: Iterable[str], where: str) -> InspectionError:
    """What to say of a name that nothing has."""
    known = list(dict.fromkeys(candidate for candidate in known if candidate))
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    if near:
        hint = f"Did you mean {', '.join(map(repr, near))}?"
    else:
        some = ", ".join(map(repr, known[:5])) + (", …" if len(known) > 5 else "")
        hint = f"There are {some}." if known else "It has no named layers."
    return InspectionError(
        f"No layer {name!r} {where}.",
        hint=hint,
    )


def no_such_operation(name: str, ran: Iterable[str]) -> InspectionError:
    """What to say of a name or pattern of operations when none that ran has it."""
    ran = list(ran)
    near = difflib.get_close_matches(name, ran, n=5, cutoff=0.5) or ran[:5]
    known = f"Those that did are {', '.join(map(repr, near))}" if near else "None did"
    return InspectionError(
        f"No operation {name!r} ran in this network.",
        hint=f"{known}; what a module without children does, such as nn.ReLU, goes by that module's name.",
    )


def _one_tensor(layer: str, output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        raise InspectionError(
            f"Layer {layer!r} returns a {type(output).__name__}, not one tensor.",
            hint="Take what you need from `.output`, or choose a layer inside it.",
        )
    return output


def _require_scalar(of: Any) -> None:
    if not isinstance(of, Tensor):
        raise InspectionError(
            f"A gradient is of a scalar tensor, not of {of!r}.",
            hint="Give the scalar first, and then the layer: `.gradient(logits[:, 3].sum(), 'conv1')`.",
        )
    if of.numel() != 1:
        raise InspectionError(
            f"A gradient is of a scalar tensor, not of one of the shape {list(of.shape)}.",
            hint="Add up what it is of, such as one class's logits: `logits[:, 3].sum()`.",
        )


def _no_graph(layer: str) -> InspectionError:
    return InspectionError(
        f"There is no gradient at layer {layer!r}: the network ran without autograd.",
        hint="Use `capture(..., gradients=True)`, with no `no_grad` or `detach` inside its block.",
    )
