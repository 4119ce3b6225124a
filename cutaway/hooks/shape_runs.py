"""Running a network for its shapes alone: no values, no memory, no time, any batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.errors import NetworkError
from cutaway.hooks.restoring import attributes_kept, untouched
from cutaway.hooks.structures import map_tensors

_FAULTS = (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError, AssertionError)


def run_on_shapes(
    network: nn.Module, shape: tuple[int, ...], restart: Callable[[], None], *, training: bool = False
) -> Any:
    """Runs a network on an input that has a shape and no values.

    A network that needs values to run (`if x.sum() > 0`) is run on zeros instead, which shows the same shapes. Every
    module runs, also inside attention. Hooks that the caller registers see the run.

    Args:
        network: Any module that takes one tensor; it is left as it was, but for the caller's hooks.
        shape: The input's shape with the batch.
        restart: Called where the run begins anew on zeros, so that what hooks have noted can be dropped.
        training: Run it in training mode, in which some networks return more; otherwise in evaluation mode.

    Returns:
        What the network returns.

    Raises:
        NetworkError: The network cannot run on this shape.
    """
    return run_on_inputs(network, (without_values(network, shape),), {}, restart, training=training)


def run_on_inputs(
    network: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    restart: Callable[[], None],
    *,
    training: bool = False,
) -> Any:
    """`run_on_shapes` for networks that take something else than one tensor.

    Args:
        network: Any module; it is left as it was, but for the caller's hooks.
        args: What it takes by position: tensors in any tuples, lists and dictionaries. Their values are not looked
            at where the network runs without; those on `meta` have none, and stand for zeros where it needs some.
        kwargs: What it takes by name.
        restart: Called where the run begins anew with values, so that what hooks have noted can be dropped.
        training: Run it in training mode.

    Raises:
        NetworkError: The network cannot run on these.
    """
    inputs = (tuple(args), dict(kwargs))
    with untouched(network), torch.no_grad(), without_attention_fast_path():
        network.train(training)
        try:
            some, named = map_tensors(lambda tensor: tensor.detach().to("meta"), inputs)
            return run_with(network, lambda tensor: tensor.detach().to("meta"), some, named)
        except _FAULTS:
            restart()
        try:
            some, named = map_tensors(_with_values(network), inputs)
            with _recurrence_in_plain_operations():
                return network(*some, **named)
        except _FAULTS as error:
            raise refused(network, inputs, error) from error


def run_with(
    network: nn.Module, replace: Callable[[Tensor], Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Runs a network with something else in the place of its parameters and buffers, and then puts those back.

    Args:
        network: Any module.
        replace: Gives what stands for a parameter or buffer; asked once for each, however many modules share it.
        args: What it takes by position.
        kwargs: What it takes by name.
    """
    replaced: dict[int, Tensor] = {}
    state = {}
    # By module and never twice: of a module with two names, `functional_call`'s own tying of weights puts back what it
    # put there itself, and the network would have lost its weights.
    for name, module in network.named_modules():
        for own, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                if id(tensor) not in replaced:
                    replaced[id(tensor)] = replace(tensor)
                state[f"{name}.{own}" if name else own] = replaced[id(tensor)]
    with attributes_kept(network):
        return torch.func.functional_call(network, state, tuple(args), dict(kwargs), tie_weights=False)


def without_values(network: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """A tensor on `meta` of the type that the network computes in."""
    return torch.empty(shape, dtype=_example(network).dtype, device="meta")


def refused(network: nn.Module, inputs: Any, error: BaseException) -> NetworkError:
    """What to tell where a network cannot run on some inputs."""
    shapes: list[str] = []
    map_tensors(lambda tensor: shapes.append(str(list(tensor.shape))), inputs)
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    what = f"an input of shape {shapes[0]}" if len(shapes) == 1 else f"inputs of the shapes {', '.join(shapes)}"
    return NetworkError(
        f"{type(network).__name__} cannot run on {what}: {reason}",
        hint="Give the channels, height and width that it was made for.",
    )


@contextmanager
def without_attention_fast_path() -> Iterator[None]:
    """Makes attention run module by module: its fused inference path calls no hook and hides its operations."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextmanager
def _recurrence_in_plain_operations() -> Iterator[None]:
    """Makes LSTMs and their like run operation by operation: their fused kernels hide what they compute."""
    libraries: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    enabled = [library.enabled for library in libraries]
    try:
        for library in libraries:
            library.enabled = False
        yield
    finally:
        for library, before in zip(libraries, enabled, strict=True):
            library.enabled = before


def _example(network: nn.Module) -> Tensor:
    return next((tensor for tensor in network.parameters() if tensor.is_floating_point()), torch.empty(0))


def _with_values(network: nn.Module) -> Callable[[Tensor], Tensor]:
    device = _example(network).device

    def values(tensor: Tensor) -> Tensor:
        return torch.zeros_like(tensor, device=device) if tensor.is_meta else tensor

    return values
