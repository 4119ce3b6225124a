"""A GPU for machines without one: tensors that lie on `cuda:0` as far as any code can tell, computed by the CPU.

What a real GPU refuses is refused: an operation on tensors of both devices, and making a NumPy array of a tensor that
lies there. All else gives the same numbers as on the CPU, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
_CPU = torch.device("cpu")
_BETWEEN_DEVICES = ("aten::_to_copy", "aten::copy_")
_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


class Away(Tensor):
    """A tensor on the pretended GPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Away:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            requires_grad=held.requires_grad,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"Away({self.held})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Away:
        copied = Away(self.held.clone()).requires_grad_(self.requires_grad)
        copied._is_param = getattr(self, "_is_param", False)
        memo[id(self)] = copied
        return copied

    def cpu(self, *_: Any, **__: Any) -> Tensor:
        return _moved(self, _CPU)

    def tolist(self) -> Any:
        return self.held.tolist()

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        return _to(self, args, kwargs)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.to:  # of a tensor on the CPU, to where one on the GPU lies
            return _to(args[0], args[1:], kwargs or {})
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Pretending(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


@contextmanager
def pretended(monkeypatch: Any) -> Iterator[torch.device]:
    """Inside, tensors and modules can be moved to the device that it gives."""
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    for name in ("tensor", "as_tensor"):
        monkeypatch.setattr(torch, name, _making(getattr(torch, name)))
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Pretending():
            yield GPU
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor, target: torch.device) -> Tensor:
        context.target = GPU if isinstance(tensor, Away) else _CPU
        return tensor.held.clone() if target.type == "cpu" else Away(tensor.clone())

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _moved(gradient, context.target), None


def _making(make: Any) -> Any:
    """`torch.tensor` and `torch.as_tensor`, which would ask the driver before anything else."""

    def made(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
        target = torch.device("cpu" if device is None else device)
        if isinstance(data, Tensor):
            return make(data, **kwargs) if device is None else _moved(make(data, **kwargs), target)
        return _moved(make(data, **kwargs), target)

    return made


def _to(tensor: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """`Tensor.to` in all its forms: a device, a dtype, both, or another tensor that has them."""
    asked = [*args, *kwargs.values()]
    other = next((each for each in asked if isinstance(each, Tensor)), None)
    if other is not None:
        asked = [other.device, other.dtype]
    device = next((torch.device(each) for each in asked if isinstance(each, str | torch.device)), tensor.device)
    dtype = next((each for each in asked if isinstance(each, torch.dtype)), tensor.dtype)
    moved = _moved(tensor, device)
    return torch.ops.aten._to_copy(moved, dtype=dtype) if dtype != tensor.dtype else moved


def _moved(tensor: Tensor, target: torch.device) -> Tensor:
    if (target.type == "cpu") == (not isinstance(tensor, Away)):
        return tensor
    return _Move.apply(tensor, target)


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    away = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, Away)}
    if away and name not in _BETWEEN_DEVICES:
        # A single number may lie anywhere, and what lies on a GPU may be indexed from the CPU.
        asked = tensors[:1] if name in _INDEXING else tensors
        if any(not isinstance(tensor, Away) and tensor.dim() > 0 for tensor in asked):
            raise RuntimeError(f"Expected all tensors to be on the same device, and {name} was given both")
    device = kwargs.get("device")
    if device is not None and device.type == "cuda":
        kwargs = kwargs | {"device": _CPU}
    held_args, held_kwargs = tree_map(lambda leaf: leaf.held if isinstance(leaf, Away) else leaf, (args, kwargs))
    found = func(*held_args, **held_kwargs)
    if name == "aten::copy_":
        stays_away = isinstance(args[0], Away)
    else:
        stays_away = device.type == "cuda" if device is not None else bool(away)

    def given(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not stays_away:
            return leaf
        return away[id(leaf)] if id(leaf) in away else Away(leaf)

    return tree_map(given, found)
