"""What layers take, return and get back as gradients over any number of pictures, as statistics in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.errors import InspectionError
from cutaway.evaluation import logits_of
from cutaway.hooks import Call, Capture, Statistics, StreamingStatistics, capture, map_tensors, named_modules, untouched
from cutaway.hooks.selecting import Layers
from cutaway.inspect.passes import Loss, require_batches, require_pictures_alone

Part = Literal["outputs", "inputs", "gradients"]
PARTS: tuple[Part, ...] = ("outputs", "inputs", "gradients")

# Operations that only put values elsewhere, or give them another shape.
_REARRANGING = frozenset(
    {"chunk", "contiguous", "expand", "flatten", "getitem", "movedim", "narrow", "permute", "pixel_shuffle", "reshape"}
    | {"roll", "select", "split", "squeeze", "stack", "swapaxes", "t", "transpose", "unbind", "unflatten", "unsqueeze"}
    | {"clone", "detach", "to", "type", "float", "view", "view_as", "expand_as", "reshape_as", "flip", "repeat"}
)


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """What is known of one layer over all pictures.

    Attributes:
        layer: Its name, or that of an operation, such as `layer1.0:add#0`; `relu[1]` is the second call in a run.
        part: Whether it is of what the layer returns, of what it takes, or of the loss's gradients at what it returns.
        kind: The type of the module, or what the operation does.
        shapes: Of each tensor of the first batch, without the axis of the pictures where that comes first; empty where
            there is none, as of the gradients of whole numbers.
        statistics: Of all values that are floating-point numbers.
        is_called: Whether the layer ran at all.
    """

    layer: str
    part: Part
    kind: str
    shapes: tuple[tuple[int, ...], ...]
    statistics: Statistics
    is_called: bool = True


@dataclass(frozen=True)
class Recorded:
    """One tensor of one batch.

    Attributes:
        layer: As `LayerStatistics.layer`.
        part: As `LayerStatistics.part`.
        place: Which one it is of the tensors that the layer takes or returns.
        tensor: Of any type, a copy.
        num_pictures: In the batch.
    """

    layer: str
    part: Part
    place: int
    tensor: Tensor
    num_pictures: int

    @property
    def is_by_picture(self) -> bool:
        """Whether its first axis is that of the pictures."""
        return self.tensor.dim() > 0 and len(self.tensor) == self.num_pictures


def summed_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The losses of all pictures added up, so that each one's gradient is the same in a batch of any size."""
    return F.cross_entropy(logits, labels, reduction="sum")


def layer_statistics(
    network: nn.Module,
    batches: Iterable[Any],
    layers: Layers = None,
    *,
    parts: Sequence[Part] = ("outputs",),
    loss: Loss = summed_cross_entropy,
    on_tensor: Callable[[Recorded], None] | None = None,
) -> tuple[LayerStatistics, ...]:
    """Statistics of what layers return, take, or get back as gradients, in memory that the number of pictures spares.

    The network runs in evaluation mode and is left as it was. What `capture` says of layers, of operations that are no
    module, and of layers that are called several times holds here.

    Args:
        network: Takes a batch.
        batches: Inputs, such as float32 [N, C, H, W], on the network's device; pairs of them and of targets [N] where
            gradients are asked for.
        layers: As for `capture`. All modules without children if None, and the operations outside of them but those
            that only rearrange values or return no floating-point numbers.
        parts: What to look at.
        loss: From logits and targets to a scalar, for gradients; by default each picture's own cross-entropy.
        on_tensor: Told of every tensor, also of whole numbers, in the order in which the calls ended.

    Returns:
        In the order of the first run's calls, the parts of a layer together; layers that were asked for and never
        called at the end.

    Raises:
        InspectionError: A choice matches nothing, there is no batch, one tensor instead of batches, or nothing to
            look at.
    """
    parts = tuple(dict.fromkeys(parts))
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise InspectionError(f"There are {', '.join(PARTS)} to look at, not {unknown[0] if unknown else 'nothing'}.")
    with_gradients = "gradients" in parts
    require_batches(batches, pairs=with_gradients)
    chosen: Layers = [_is_leaf, "*:*"] if layers is None else layers
    gathered = _Gathered(network, parts, on_tensor, leave_out=_REARRANGING if layers is None else frozenset())
    with untouched(network), torch.set_grad_enabled(with_gradients):
        network.eval()
        with capture(
            network,
            chosen,
            inputs="inputs" in parts,
            gradients=with_gradients,
            on_call=None if with_gradients else gathered.add,
        ) as captured:
            for batch in batches:
                if with_gradients:
                    inputs, targets = _pair(batch)
                    gathered.num_pictures = len(inputs)
                    total = loss(logits_of(network(inputs)), targets)
                    gathered.add_all(captured, total)
                    captured.clear()
                else:
                    require_pictures_alone(batch)
                    gathered.num_pictures = len(batch)
                    network(batch)
    if not gathered.num_pictures:
        raise InspectionError("There are no pictures to run through the network.")
    found = gathered.result(() if layers is None else captured.layers)
    return found if layers is not None else tuple(one for one in found if _has_values(one.statistics))


class _Gathered:
    """The streams of all layers and parts, in the order in which they came."""

    def __init__(
        self,
        network: nn.Module,
        parts: Sequence[Part],
        on_tensor: Callable[[Recorded], None] | None,
        leave_out: frozenset[str],
    ) -> None:
        self._modules = named_modules(network, shared=True)
        self._parts = parts
        self._on_tensor = on_tensor
        self._streams: dict[str, dict[Part, StreamingStatistics]] = {}
        self._shapes: dict[tuple[str, Part], list[tuple[int, ...]]] = {}
        self._layers: dict[str, str] = {}
        self._leave_out = leave_out
        self.num_pictures = 0

    def add(self, call: Call) -> None:
        if _operation(call.layer) in self._leave_out:
            return
        self._layers.setdefault(call.label, call.layer)
        if "outputs" in self._parts:
            self._add(call.label, "outputs", call.output)
        if "inputs" in self._parts:
            self._add(call.label, "inputs", (call.inputs, call.keyword_inputs or {}))

    def add_all(self, captured: Capture, total: Tensor) -> None:
        gradients = {layer: iter(by_call) for layer, by_call in captured.gradients(total).items()}
        for call in captured.all_calls:
            self.add(call)
            gradient = next(gradients[call.layer])
            if call.label in self._layers:
                self._add(call.label, "gradients", gradient)

    def _add(self, label: str, part: Part, structure: Any) -> None:
        tensors: list[Tensor] = []
        map_tensors(tensors.append, structure)
        is_first = (label, part) not in self._shapes
        stream = self._streams.setdefault(label, {}).setdefault(part, StreamingStatistics())
        shapes = self._shapes.setdefault((label, part), [])
        for place, tensor in enumerate(tensors):
            recorded = Recorded(label, part, place, tensor.detach(), self.num_pictures)
            if is_first:
                shapes.append(tuple(tensor.shape[1:] if recorded.is_by_picture else tensor.shape))
            if tensor.is_floating_point():
                stream.update(tensor)
            if self._on_tensor is not None:
                self._on_tensor(recorded)

    def result(self, asked: Iterable[str]) -> tuple[LayerStatistics, ...]:
        found = [
            LayerStatistics(
                label,
                part,
                self._kind(self._layers[label]),
                tuple(self._shapes[label, part]),
                self._streams[label][part].result(),
            )
            for label in self._streams
            for part in self._parts
            if part in self._streams[label]
        ]
        called = set(self._layers.values())
        idle = [name for name in asked if name in self._modules and not self._is_called(name, called)]
        nothing = StreamingStatistics().result()
        found += [
            LayerStatistics(name, part, self._kind(name), (), nothing, False) for name in idle for part in self._parts
        ]
        return tuple(found)

    def _is_called(self, name: str, called: set[str]) -> bool:
        """Whether the module of that name is recorded, under any of its names."""
        return any(self._modules.get(other) is self._modules[name] for other in called)

    def _kind(self, layer: str) -> str:
        return type(self._modules[layer]).__name__ if layer in self._modules else _operation(layer)


def _has_values(statistics: Statistics) -> bool:
    return statistics.count + statistics.num_nan + statistics.num_infinite > 0


def _is_leaf(name: str, module: nn.Module) -> bool:
    return not any(True for _ in module.children())


def _operation(layer: str) -> str:
    """What an operation does, by its name; nothing for a module."""
    return layer.rpartition(":")[2].partition("#")[0] if ":" in layer else ""


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    raise InspectionError(
        f"For gradients a batch is a pair of pictures and labels, and this is a {type(batch).__name__}.",
        hint="Give pairs, as a DataLoader does, or leave the gradients out.",
    )
