"""Leaving a network as it was found."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

_HOOK_TABLES = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@contextmanager
def untouched(network: nn.Module) -> Iterator[nn.Module]:
    """Gives the network back as it was, whatever happens inside the block.

    Restored are, per module, the train or eval flag, the hooks and the buffers (BatchNorm's statistics); per
    parameter `requires_grad` and `.grad`; and the random states of torch (CPU, CUDA, MPS), numpy and Python. The
    values of parameters are not kept, since no inspection writes them.

    Args:
        network: Any module.

    Yields:
        The same network.
    """
    modules = [_ModuleState(module) for module in network.modules()]
    parameters = [_ParameterState(parameter) for parameter in network.parameters()]
    restore_random = _random_states()
    try:
        yield network
    finally:
        for module in modules:
            module.restore()
        for parameter in parameters:
            parameter.restore()
        restore_random()


class _ModuleState:
    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._training = module.training
        self._hooks = {table: dict(getattr(module, table)) for table in _HOOK_TABLES}
        self._buffers = dict(module._buffers)
        self._values = [_Value(buffer) for buffer in self._buffers.values() if buffer is not None]

    def restore(self) -> None:
        self._module.training = self._training
        for table, hooks in self._hooks.items():
            # In place, because the handles of the hooks hold on to this very dictionary.
            present = getattr(self._module, table)
            present.clear()
            present.update(hooks)
        self._module._buffers.clear()
        self._module._buffers.update(self._buffers)
        for value in self._values:
            value.restore()


class _ParameterState:
    def __init__(self, parameter: nn.Parameter) -> None:
        self._parameter = parameter
        self._requires_grad = parameter.requires_grad
        self._grad = parameter.grad
        self._value = None if parameter.grad is None else _Value(parameter.grad)

    def restore(self) -> None:
        if self._parameter.requires_grad != self._requires_grad:
            self._parameter.requires_grad_(self._requires_grad)
        if self._value is not None:
            self._value.restore()
        self._parameter.grad = self._grad


class _Value:
    """A tensor's content; written back only where it changed, so that autograd graphs that hold it stay valid."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor
        self._content = tensor.detach().clone()

    def restore(self) -> None:
        # Its version counter would not do: BatchNorm under `inference_mode` leaves it as it is.
        if self._tensor.is_meta or torch.equal(self._tensor, self._content):
            return
        with torch.inference_mode(self._tensor.is_inference()), torch.no_grad():
            self._tensor.copy_(self._content)


def _random_states() -> Callable[[], None]:
    cpu, python, legacy_numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()
    # Asking an accelerator that nobody used yet for its state would start it.
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def restore() -> None:
        torch.set_rng_state(cpu)
        random.setstate(python)
        np.random.set_state(legacy_numpy)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return restore
