"""What training keeps in memory: weights, gradients, the optimizer's state, and activations for the backward pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cutaway.errors import InspectionError
from cutaway.hooks import map_tensors, named_modules, refused, run_with, untouched
from cutaway.inspect.layers.rows import Shape
from cutaway.inspect.layers.table import arguments_of, told_of_batch

Making = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that are there at once when the backward pass begins, and where the activations among them come from.

    What a kernel takes for itself while it runs, and what an allocator holds back, comes on top.

    Attributes:
        batch_size: Samples in the batch; None where the inputs were given as they are.
        optimizer: The optimizer's class.
        weight_bytes: Of parameters and buffers.
        gradient_bytes: Of one gradient for each parameter that requires it.
        optimizer_bytes: Of the optimizer's state after a step.
        saved_bytes: Of the tensors that autograd keeps for the backward pass, each storage once, without weights and
            inputs.
        input_bytes: Of the batch itself.
        saved_by_layer: (name, bytes) of the module that was running when a storage was first kept, those of the most
            bytes first.
    """

    batch_size: int | None
    optimizer: str
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    saved_bytes: int
    input_bytes: int
    saved_by_layer: tuple[tuple[str, int], ...]

    @property
    def total_bytes(self) -> int:
        """All together."""
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes + self.saved_bytes + self.input_bytes


def training_memory(
    network: nn.Module,
    input_shape: Shape | Sequence[Shape] | None = None,
    batch_size: int = 1,
    *,
    inputs: Any = None,
    optimizer: torch.optim.Optimizer | Making = torch.optim.AdamW,
) -> TrainingMemory:
    """Finds out what a step of training keeps in memory, without taking that memory.

    The network runs in training mode on tensors without values, which choose the kernels of the network's device; one
    that needs values runs once on zeros. It is left as it was.

    Args:
        network: Any module.
        input_shape: As in `layer_table`.
        batch_size: Samples in the batch.
        inputs: As in `layer_table`.
        optimizer: One that is there already, which is not touched, or what makes one of parameters, such as
            `functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)`.

    Raises:
        NetworkError: The network cannot be trained on these inputs.
        InspectionError: There is not one of `input_shape` and `inputs`.
    """
    args, kwargs = arguments_of(network, input_shape, batch_size, inputs)
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    made, state = _optimizer_state(optimizer, parameters)
    with told_of_batch(input_shape):
        saved = _saved(network, (args, kwargs))
    trained = [parameter for parameter in parameters.values() if parameter.requires_grad]
    fed: list[Tensor] = []
    map_tensors(fed.append, (args, kwargs))
    return TrainingMemory(
        batch_size=batch_size if inputs is None else None,
        optimizer=made,
        weight_bytes=_bytes([*parameters.values(), *buffers.values()]),
        gradient_bytes=_bytes(trained),
        optimizer_bytes=state,
        saved_bytes=sum(saved.values()),
        input_bytes=_bytes(fed),
        saved_by_layer=tuple(sorted(saved.items(), key=lambda item: -item[1])),
    )


def _saved(network: nn.Module, inputs: Any) -> dict[str, int]:
    """Bytes that autograd keeps, by module."""
    with untouched(network), torch.enable_grad():
        network.train()
        # Whatever a network does to values that are not there: it is tried again with some.
        with suppress(Exception):
            return _saved_without_values(network, inputs)
        try:
            return _saved_on_zeros(network, inputs)
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError, AssertionError) as error:
            raise refused(network, inputs, error) from error


def _saved_without_values(network: nn.Module, inputs: Any) -> dict[str, int]:
    example = next(network.parameters(), torch.empty(0))
    device = "cpu" if example.is_meta else example.device

    def fake(tensor: Tensor) -> Tensor:
        copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
        return copy.requires_grad_(tensor.requires_grad)

    with FakeTensorMode(allow_non_fake_inputs=True):
        some, named = map_tensors(fake, inputs)
        keeping = _Keeping((some, named))

        def own(tensor: Tensor) -> Tensor:
            copy = fake(tensor)
            keeping.leave_out(copy)
            return copy

        with keeping.watching(network):
            run_with(network, own, some, named)
    return keeping.saved


def _saved_on_zeros(network: nn.Module, inputs: Any) -> dict[str, int]:
    device = next(network.parameters(), torch.empty(0)).device
    some, named = map_tensors(
        lambda tensor: torch.zeros_like(tensor, device=device) if tensor.is_meta else tensor, inputs
    )
    keeping = _Keeping((some, named))
    for tensor in (*network.parameters(), *network.buffers()):
        keeping.leave_out(tensor)
    with keeping.watching(network):
        network(*some, **named)
    return keeping.saved


class _Keeping:
    """Adds up the storages that autograd keeps, each once; those of weights and inputs are there anyway."""

    def __init__(self, inputs: Any) -> None:
        self.saved: dict[str, int] = {}
        self._running: list[str] = []
        # Held on to, since a storage that is gone could give its identity to another.
        self._seen: dict[int, Tensor] = {}
        map_tensors(self._is_new, inputs)

    def leave_out(self, tensor: Tensor) -> None:
        """Takes note of a tensor that is counted elsewhere."""
        self._is_new(tensor)

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        self._running.clear()
        handles = []
        for name, module in named_modules(network).items():
            handles.append(module.register_forward_pre_hook(self._entering(name)))
            handles.append(module.register_forward_hook(self._leaving))
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor):
            try:
                yield
            finally:
                for handle in handles:
                    handle.remove()

    def _entering(self, name: str) -> Callable[..., None]:
        return lambda module, args: self._running.append(name)

    def _leaving(self, module: nn.Module, args: Any, output: Any) -> None:
        self._running.pop()

    def _pack(self, tensor: Tensor) -> Tensor:
        if self._is_new(tensor):
            name = self._running[-1] if self._running else ""
            self.saved[name] = self.saved.get(name, 0) + tensor.untyped_storage().nbytes()
        return tensor

    def _is_new(self, tensor: Tensor) -> bool:
        identity = tensor.untyped_storage()._cdata
        if identity in self._seen:
            return False
        self._seen[identity] = tensor
        return True


def _optimizer_state(optimizer: torch.optim.Optimizer | Making, parameters: dict[str, nn.Parameter]) -> tuple[str, int]:
    """An optimizer's class, and the bytes of its state: a step of its like over parameters that have no values."""

    def bare(parameter: nn.Parameter) -> nn.Parameter:
        copy = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)
        copy.grad = torch.empty_like(copy) if parameter.requires_grad else None
        return copy

    if isinstance(optimizer, torch.optim.Optimizer):
        groups = [group | {"params": [bare(each) for each in group["params"]]} for group in optimizer.param_groups]
        # The fused kernels have no form without values.
        groups = [group | {"fused": False, "foreach": True} if "fused" in group else group for group in groups]
        twin = type(optimizer)(groups, **_accepted(optimizer))
    else:
        twin = optimizer([bare(parameter) for parameter in parameters.values() if parameter.requires_grad])
    try:
        twin.step()
    except (RuntimeError, NotImplementedError) as error:
        raise InspectionError(
            f"The state of {type(twin).__name__} cannot be found out without training: {error}."
        ) from error
    return type(twin).__name__, _bytes(
        [value for state in twin.state.values() for value in state.values() if isinstance(value, Tensor)]
    )


def _accepted(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its defaults by the names that its constructor takes."""
    takes = inspect.signature(type(optimizer)).parameters
    defaults = {name: value for name, value in optimizer.defaults.items() if name in takes}
    return defaults | ({"fused": False, "foreach": True} if "fused" in takes else {})


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
