"""Running a network for its shapes alone: no values, no memory, no time, any batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from cutaway.errors import NetworkError
from cutaway.hooks.restoring import untouched

_FAULTS = (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError, AssertionError)


def run_on_shapes(network: nn.Module, shape: tuple[int, ...], restart: Callable[[], None]) -> Any:
    """Runs a network in evaluation mode on an input that has a shape and no values.

    A network that needs values to run (`if x.sum() > 0`) is run on zeros instead, which shows the same shapes. Every
    module runs, also inside attention. Hooks that the caller registers see the run.

    Args:
        network: Any module that takes one tensor; it is left as it was, but for the caller's hooks.
        shape: The input's shape with the batch.
        restart: Called where the run begins anew on zeros, so that what hooks have noted can be dropped.

    Returns:
        What the network returns.

    Raises:
        NetworkError: The network cannot run on this shape.
    """
    example = next((tensor for tensor in network.parameters() if tensor.is_floating_point()), torch.empty(0))
    state = dict(network.named_parameters()) | dict(network.named_buffers())
    with untouched(network), torch.no_grad(), without_attention_fast_path():
        network.eval()
        try:
            images = torch.empty(shape, dtype=example.dtype, device="meta")
            without_values = {name: tensor.detach().to("meta") for name, tensor in state.items()}
            return torch.func.functional_call(network, without_values, (images,))
        except _FAULTS:
            restart()
        try:
            return network(torch.zeros(shape, dtype=example.dtype, device=example.device))
        except _FAULTS as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise NetworkError(
                f"{type(network).__name__} cannot run on an input of shape {list(shape)}: {reason}",
                hint="Give the channels, height and width that it was made for.",
            ) from error


@contextmanager
def without_attention_fast_path() -> Iterator[None]:
    """Makes attention run module by module: its fused inference path calls no hook and hides its operations."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
