"""Where numbers stopped being numbers: the steps since the last good bundle once more, with every layer looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from cutaway.batches import Batch, Feed
from cutaway.errors import CutawayError
from cutaway.hooks import map_tensors
from cutaway.progress import Track, silent
from cutaway.train.epoch import Epoch
from cutaway.train.session import Session

Kind = Literal["input", "output", "gradient at the input", "gradient at the output", "gradient", "weight", "loss"]
Value = Literal["nan", "inf"]


class NotFiniteError(CutawayError):
    """The loss is NaN or infinite.

    Args:
        value: The loss.
        step: The step after which that was seen; it may have begun some steps before.
        kept: The newest bundle, which is untouched; None where there is none yet.
    """

    def __init__(self, value: float, step: int, kept: Path | None) -> None:
        untouched = "" if kept is None else f" What was saved before is untouched: {kept}."
        super().__init__(
            f"The loss became {value} by step {step}, so the training stopped.", hint=f"Give a lower --lr.{untouched}"
        )
        self.step = step


@dataclass(frozen=True)
class Fault:
    """The first tensor of a training that held a NaN or an infinity.

    Attributes:
        step: 1 for the first.
        kind: `input` and `output` of a layer in the forward pass, with all before it finite; a `gradient` of a weight,
            or at a layer's input or output, with all gradients before it finite; `weight` where the optimizer made
            it of finite gradients; `loss` where the network's answer was finite.
        name: Of the layer or the weight; empty for the whole network and for the loss.
        value: `nan` or `inf`.
    """

    step: int
    kind: Kind
    name: str
    value: Value

    def __str__(self) -> str:
        if self.kind == "loss":
            return f"In step {self.step} the loss became {self.value}, though what the network gave was finite."
        if self.kind == "weight":
            return f"After step {self.step} the first weight to hold {self.value} was '{self.name}'."
        of = f"'{self.name}'" if self.kind == "gradient" else f"layer '{self.name}'" if self.name else "the network"
        return f"In step {self.step} the first to hold {self.value} was the {self.kind} of {of}."


def explain(
    error: NotFiniteError, session: Session, again: Callable[[], Session], feed: Feed, *, track: Track = silent
) -> CutawayError:
    """The error, with the layer that it began at.

    Args:
        error: What stopped the training.
        session: The training, which is good for nothing else from here on.
        again: Gives it as it was at the last good bundle, or at the beginning.
        feed: The training split.
        track: Shows progress.
    """
    # Room for the second training beside the first.
    session.optimizer.zero_grad(set_to_none=True)
    session.optimizer.state.clear()
    fault = find_fault(again(), feed, error.step, track=track)
    hint = error.hint
    if fault is not None:
        said = str(fault)
        if fault.step == 1:
            hint = "No rate was too high before the first step: look at that layer, and at what it was given."
    elif name := first_bad_weight(session.network):
        said = f"The same steps once more met nothing of the kind; the first weight that is no number is '{name}'."
    else:
        said = "The same steps once more met nothing of the kind."
    return CutawayError(f"{error.message} {said}", hint=hint)


def find_fault(session: Session, feed: Feed, until: int, *, track: Track = silent) -> Fault | None:
    """Trains within the epoch in progress, step by step, until something is not finite.

    Since a training repeats bit for bit, this meets what the training met that is being repeated.

    Args:
        session: As it was at the last good bundle, or at the beginning. It is trained, and then good for nothing else.
        feed: The training split.
        until: The last step to make.
        track: Shows progress.

    Returns:
        None where everything stays finite up to `until` or the end of the epoch.
    """
    if name := first_bad_weight(session.network):
        return Fault(session.step, "weight", name, _what(session.network.state_dict()[name]))
    epoch = Epoch(session, feed)
    # A compiled network would pass by what looks at its layers.
    with torch.compiler.set_stance("force_eager"):
        for batch in track(epoch, "looking for where it began", until - session.step):
            if fault := _fault_in_step(session, epoch, batch):
                return fault
            if session.step >= until:
                break
    return None


def first_bad_weight(network: nn.Module) -> str | None:
    """The first parameter or buffer in the order of the layers that is not finite; None where all are."""
    tensors = network.state_dict().items()
    return next((name for name, tensor in tensors if _is_bad(tensor)), None)


def _fault_in_step(session: Session, epoch: Epoch, batch: Batch) -> Fault | None:
    step = session.step + 1
    with _watched(session.network) as seen:
        loss, _ = epoch.learn(batch)
    if _is_bad(loss):
        return Fault(step, *(seen.forward or ("loss", "", _what(loss))))
    name = first_bad_weight(session.network)
    if name is None:
        # Whatever else was not finite went no further: a mask, or a step that a gradient scaler left out.
        return None
    return Fault(step, *(seen.backward or ("weight", name, _what(session.network.state_dict()[name]))))


@dataclass
class _Seen:
    """The first bad tensor of a forward and of a backward pass."""

    forward: tuple[Kind, str, Value] | None = None
    backward: tuple[Kind, str, Value] | None = None
    # What a tensor is, from which a gradient is named.
    places: WeakIdKeyDictionary = field(default_factory=WeakIdKeyDictionary)


@contextmanager
def _watched(network: nn.Module) -> Iterator[_Seen]:
    """Looks at every layer's inputs and outputs while they are computed, and at the gradients on their way back."""
    seen = _Seen()
    handles = []
    try:
        for name, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(_before(name, seen), with_kwargs=True))
            handles.append(module.register_forward_hook(_after(name, seen)))
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                handles.append(parameter.register_hook(_on_gradient(["gradient", name], seen)))  # type: ignore[no-untyped-call]
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _before(name: str, seen: _Seen) -> Callable[..., None]:
    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for tensor in _tensors((args, kwargs)):
            if seen.forward is None and _is_bad(tensor):
                seen.forward = ("input", name, _what(tensor))
            # Of a block and its first layer, and of a layer and the one that it leads to, the last to begin.
            _watch_gradient(tensor, seen)[:] = ["gradient at the input", name]

    return look


def _after(name: str, seen: _Seen) -> Callable[..., None]:
    def look(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        for tensor in _tensors(output):
            if seen.forward is None and _is_bad(tensor):
                seen.forward = ("output", name, _what(tensor))
            # Of a block and its last layer, the first to end.
            place = _watch_gradient(tensor, seen)
            place[:] = place or ["gradient at the output", name]

    return look


def _watch_gradient(tensor: Tensor, seen: _Seen) -> list[Any]:
    """The place where a tensor's gradient is looked at, to be filled in with its kind and the layer's name."""
    place: list[Any] | None = seen.places.get(tensor)  # type: ignore[no-untyped-call]
    if place is None:
        place = seen.places[tensor] = []
        if tensor.requires_grad:
            tensor.register_hook(_on_gradient(place, seen))  # type: ignore[no-untyped-call]
    return place


def _on_gradient(place: list[Any], seen: _Seen) -> Callable[[Tensor], None]:
    def look(gradient: Tensor) -> None:
        if seen.backward is None and _is_bad(gradient):
            kind, name = place
            seen.backward = (kind, name, _what(gradient))

    return look


def _tensors(structure: Any) -> list[Tensor]:
    found: list[Tensor] = []
    map_tensors(found.append, structure)
    return found


def _is_bad(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())


def _what(tensor: Tensor) -> Value:
    return "nan" if bool(torch.isnan(tensor).any()) else "inf"
