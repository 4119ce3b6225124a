"""Activations and gradients of a network over pictures, as histograms."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutaway.errors import InspectionError
from cutaway.evaluation import logits_of
from cutaway.hooks import (
    OperationCall,
    map_tensors,
    named_modules,
    untouched,
    watch_operations,
    without_attention_fast_path,
)
from cutaway.hooks.naming import all_modules, is_compiled
from cutaway.inspect.growing_histograms import GrowingHistogram
from cutaway.inspect.histograms import Histogram, tensor_histogram

Loss = Callable[[Tensor, Tensor], Tensor]
# Activation functions that networks call without a module.
_FUNCTIONS = frozenset(
    {"relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "sigmoid"}
    | {"tanh", "hardtanh", "hardswish", "hardsigmoid", "softmax", "log_softmax", "logsigmoid"}
)


def activation_histograms(
    network: nn.Module, batches: Iterable[Tensor], *, layers: str | Iterable[str] | None = None, bins: int = 48
) -> tuple[Histogram, ...]:
    """How the outputs of a network's layers are distributed over pictures, in memory that the number doesn't change.

    The network runs in evaluation mode and is left as it was. A layer that is called several times counts all of its
    calls. What torch.compile made runs uncompiled, since compiled code calls no hooks.

    Args:
        network: Takes a batch.
        batches: Inputs, such as float32 [N, C, H, W], on the network's device.
        layers: A name as in `network.named_modules()`, or several; all modules without children if None, and the
            activation functions that are called without a module, such as `conv1:relu#0`.
        bins: At most so many.

    Raises:
        InspectionError: There is no such layer, no batch, one tensor instead of batches, or labels beside the pictures.
    """
    require_batches(batches)
    modules = named_modules(network, shared=True)
    asked = None if layers is None else list(dict.fromkeys([layers] if isinstance(layers, str) else layers))
    unknown = [name for name in asked or () if name not in modules]
    if unknown:
        raise InspectionError(f"There is no layer '{unknown[0]}'.", hint="`cutaway inspect layers` shows their names.")
    own = named_modules(network)
    chosen = asked if asked is not None else [name for name in own if not any(True for _ in own[name].children())]
    counted: dict[str, GrowingHistogram] = {}
    shapes: dict[str, tuple[int, ...]] = {}

    def count(name: str, output: Any) -> None:
        # Else a function that watches what modules call would see this.
        with torch._C.DisableTorchFunction():
            found: list[Tensor] = []
            map_tensors(found.append, output)
            for tensor in found:
                if tensor.is_floating_point():
                    shapes.setdefault(name, tuple(tensor.shape[1:]))
                    counted.setdefault(name, GrowingHistogram()).add(tensor)

    def after(name: str) -> Callable[..., None]:
        return lambda module, args, output: count(name, output)

    def called(call: OperationCall) -> None:
        if asked is None and call.operation in _FUNCTIONS:
            count(call.name, call.output)

    uncompiled = torch.compiler.set_stance("force_eager") if is_compiled(all_modules(network)) else nullcontext()
    with untouched(network), torch.no_grad(), without_attention_fast_path(), uncompiled:
        network.eval()
        for name in chosen:
            modules[name].register_forward_hook(after(name))
        with watch_operations(network, called):
            for batch in batches:
                require_pictures_alone(batch)
                network(batch)
    if not counted:
        raise InspectionError("No activations were seen: there is no batch, or none of the layers is called.")
    return tuple(histogram.histogram(name, shapes[name], bins=bins) for name, histogram in counted.items())


def loss_gradients(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, loss: Loss = F.cross_entropy
) -> dict[str, Tensor]:
    """The gradients of a loss over pictures at the parameters that require one, by name.

    The network runs in evaluation mode: with BatchNorm's stored statistics and without dropout. No `.grad` is written.

    Args:
        network: Returns logits [N, K].
        batches: Inputs [N, ...] and targets [N], on the network's device.
        loss: From logits and targets to the mean over a batch.

    Returns:
        Gradients of the mean over all pictures, on the CPU, in float32 at least.

    Raises:
        InspectionError: No parameter requires a gradient, there is no batch, or gradients are impossible here.
    """
    require_batches(batches, pairs=True)
    if torch.is_inference_mode_enabled():
        raise InspectionError("There are no gradients under `inference_mode`.", hint="Call this outside of it.")
    asked = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    if not asked:
        raise InspectionError("No parameter of this network requires a gradient.", hint="Its weights are frozen.")
    sums: dict[str, Tensor] = {}
    pictures = 0
    with untouched(network), torch.enable_grad():
        network.eval()
        for inputs, targets in batches:
            value = loss(logits_of(network(inputs)), targets)
            gradients = torch.autograd.grad(value, list(asked.values()), allow_unused=True)
            for name, gradient in zip(asked, gradients, strict=True):
                if gradient is not None:
                    # At least in float32: a sum in half precision soon stands still.
                    share = gradient.detach().cpu().to(torch.promote_types(gradient.dtype, torch.float32)) * len(inputs)
                    sums[name] = sums[name] + share if name in sums else share
            pictures += len(inputs)
    if not pictures:
        raise InspectionError("There are no pictures to take gradients of.")
    return {name: total / pictures for name, total in sums.items()}


def loss_gradient_histograms(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: Loss = F.cross_entropy,
    bins: int = 48,
) -> tuple[Histogram, ...]:
    """Histograms of what `loss_gradients` gives."""
    gradients = loss_gradients(network, batches, loss=loss)
    return tuple(tensor_histogram(name, gradient, bins=bins) for name, gradient in gradients.items())


def require_batches(batches: object, *, pairs: bool = False) -> None:
    """Refuses a batch in place of batches, which would be taken apart into its pictures.

    Args:
        batches: Where several are meant.
        pairs: Each is of inputs and targets.

    Raises:
        InspectionError: It is a tensor, or a pair of them, as a tuple or as the list that a DataLoader makes.
    """
    is_pair = pairs and isinstance(batches, tuple | list) and any(isinstance(part, Tensor) for part in batches)
    if isinstance(batches, Tensor) or is_pair:
        raise InspectionError(
            "Several batches are meant, and this is one.",
            hint=f"Put it into a list: {'[(images, labels)]' if pairs else '[images]'}.",
        )


def require_pictures_alone(batch: object) -> None:
    """Refuses pictures with their labels, as a DataLoader gives them, where labels say nothing.

    Raises:
        InspectionError: It is a tuple or a list.
    """
    if isinstance(batch, tuple | list):
        raise InspectionError(
            f"A batch is a tensor of pictures alone, and this is a {type(batch).__name__} of {len(batch)}.",
            hint="Leave the labels out: `(images for images, labels in loader)`.",
        )
