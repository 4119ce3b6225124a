"""Networks whose answer to one picture depends on the pictures beside it, also in evaluation mode."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cutaway.errors import InspectionError
from cutaway.hooks.naming import all_modules, named_modules

_FAULTS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)
# Of the largest logit. The same picture in another batch goes through other kernels, which round otherwise.
_ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-2}
_ROUNDING_OF_HALVES = 0.1

_known: WeakKeyDictionary[nn.Module, tuple[object, str | None]] = WeakKeyDictionary()


def layers_over_batches(network: nn.Module) -> tuple[str, ...]:
    """The layers that normalise by the batch's own mean and variance in evaluation mode too.

    Those are batch norms made with `track_running_stats=False`, or whose running statistics were taken away.
    """
    # Names are looked for only where there is such a layer: this runs before every explanation.
    if not any(map(is_over_batch, all_modules(network))):
        return ()
    return tuple(name for name, module in named_modules(network).items() if is_over_batch(module))


def is_over_batch(module: nn.Module) -> bool:
    """Whether a layer normalises by the batch's own mean and variance in evaluation mode too."""
    return isinstance(module, _BatchNorm) and module.running_mean is None and module.running_var is None


def why_alone(network: nn.Module, inputs: Tensor) -> str | None:
    """Why pictures have to go through a network one by one to be explained; None where they don't.

    Beside the layers that are known to mix pictures, the network is asked: for the answer to one picture alone and
    beside another one. That is three pictures more, and is remembered until its weights or layers change.

    Args:
        network: Returns logits [N, K]; in evaluation mode, inside `untouched`, and called under `no_grad`.
        inputs: float [N, C, H, W] on the network's device.

    Returns:
        The reason, in words that follow upon "since".

    Raises:
        InspectionError: It mixes pictures, and cannot answer to a single one.
    """
    layers = layers_over_batches(network)
    if layers:
        more = "" if len(layers) == 1 else f" and {len(layers) - 1} more"
        _require_one(network, inputs, layers[0])
        return f"{layers[0]!r}{more} normalises by the batch's own statistics in evaluation mode too"
    stamp = _stamp(network, inputs)
    known = _known.get(network)
    if known is None or known[0] != stamp:
        known = (stamp, _asked(network, inputs))
        _known[network] = known
    return known[1]


def _require_one(network: nn.Module, inputs: Tensor, layer: str) -> None:
    try:
        network(inputs[:1].clone())
    except ValueError as error:
        # What torch says of a mean and variance over a single value.
        if "more than 1 value" not in str(error):
            raise
        raise InspectionError(
            f"The network cannot answer to one picture alone: {layer!r} normalises by the batch's own statistics in "
            "evaluation mode too, so its answers to a picture depend on the pictures beside it.",
            hint="Make its batch norms with track_running_stats=True, and train it.",
        ) from error


def _asked(network: nn.Module, inputs: Tensor) -> str | None:
    one = inputs[:1]
    # Another picture within the same range of values; the batch itself might hold the same one twice.
    other = one.amin() + one.amax() - one.flip(-1)
    try:
        alone = _logits(network, one)
    except _FAULTS:
        return None  # what is wrong shows where it is run in earnest
    try:
        beside = _logits(network, torch.cat([one, other]))
    except _FAULTS:
        return "it takes one picture at a time"
    if alone is None or beside is None or alone.dim() != 2 or beside.shape != (2, *alone.shape[1:]):
        return None
    rounding = _ROUNDING.get(alone.dtype, _ROUNDING_OF_HALVES) * float(alone.abs().max().clamp(min=1e-6))

    def differs(answer: Tensor) -> bool:
        return float((answer[0] - alone[0]).abs().max()) > rounding

    if not differs(beside):
        return None
    again = _logits(network, one)
    # Where chance alone makes the answers differ, the other picture may have nothing to do with it.
    if again is not None and differs(again):
        return None
    return "its answer to a picture depends on the pictures beside it"


def _logits(network: nn.Module, inputs: Tensor) -> Tensor | None:
    output: Any = network(inputs.clone())
    logits = getattr(output, "logits", output)
    return logits.detach() if isinstance(logits, Tensor) and logits.is_floating_point() else None


def _stamp(network: nn.Module, inputs: Tensor) -> object:
    """What changes when the network does."""
    return (
        tuple(inputs.shape[1:]),
        inputs.dtype,
        str(inputs.device),
        tuple((id(tensor), None if tensor.is_inference() else tensor._version) for tensor in network.parameters()),
        tuple(map(type, all_modules(network))),
    )
