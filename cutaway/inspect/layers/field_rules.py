"""What each operation does to receptive fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from cutaway.inspect.layers.axes import Axis, Dim, Layout, Unknown, joined, length_of, only_axis, refuse_axes, sees
from cutaway.inspect.layers.operations import Operation

Rule = Callable[[Operation, Any], list[Layout]]

# Takes a tensor for its shape and type alone.
_FRESH = re.compile(r"(new_)?(empty|zeros|ones|full|rand|randn)(_like|_strided)?")


def rule_of(call: Operation) -> Rule | None:
    """What becomes of the fields in an operation; None where it makes something new."""
    name = call.name.rstrip("_")
    if _FRESH.fullmatch(name):
        return None
    if name in _RULES:
        return _RULES[name]
    if "batch_norm" in name:
        return _batch_norm
    if name.startswith("upsample_"):
        return _upsample
    if torch.Tag.pointwise in call.func.tags:
        return _pointwise
    return _lost


def _lost(call: Operation, layouts: Any) -> list[Layout]:
    raise Unknown


def _pointwise(call: Operation, layouts: Any) -> list[Layout]:
    shape = call.outputs[0].shape
    known = [(tensor, _known(layouts, tensor)) for tensor in call.tensors if tensor in layouts]
    result = []
    for at in range(len(shape)):
        dims = []
        for tensor, layout in known:
            place = at - len(shape) + tensor.dim()
            if place < 0:
                continue
            if tensor.shape[place] == shape[at]:
                dims.append(layout[place])
            elif sees(layout[place]):
                raise Unknown
        result.append(joined(dims) if dims else ((shape[at], None),))
    return [tuple(result)]


def _same(call: Operation, layouts: Any) -> list[Layout]:
    return [_input(call, layouts)]


def _batch_norm(call: Operation, layouts: Any) -> list[Layout]:
    if any(call.get(name) for name in ("training", "use_input_stats")):
        raise Unknown
    return [_input(call, layouts)]


def _layer_norm(call: Operation, layouts: Any) -> list[Layout]:
    layout = _input(call, layouts)
    refuse_axes(layout[len(layout) - len(call["normalized_shape"]) :])
    return [layout]


def _reduction(call: Operation, layouts: Any) -> list[Layout]:
    """Over dimensions that are no positions, such as a mean or softmax over channels."""
    layout = _input(call, layouts)
    asked = call.get("dim")
    over = range(len(layout)) if asked is None or asked == [] else asked if isinstance(asked, list) else [asked]
    reduced = {at % len(layout) for at in over}
    refuse_axes([layout[at] for at in reduced])
    if call.outputs[0].shape == call.tensors[0].shape:
        return [layout]
    kept = call.outputs[0].dim() == len(layout)
    result = tuple(((1, None),) if at in reduced else dim for at, dim in enumerate(layout) if kept or at not in reduced)
    return [result] * len(call.outputs)


def _linear(call: Operation, layouts: Any) -> list[Layout]:
    """A product with weights, over the last dimension."""
    left, right = (call[name] for name in (("mat1", "mat2") if call.get("mat1") is not None else ("input", "weight")))
    return _product(left, right, call, layouts)


def _matrix_product(call: Operation, layouts: Any) -> list[Layout]:
    return _product(call["self"], call["mat2"], call, layouts)


def _product(left: Tensor, right: Tensor, call: Operation, layouts: Any) -> list[Layout]:
    if right in layouts or left not in layouts:
        raise Unknown
    layout = _known(layouts, left)
    refuse_axes(layout[-1:])
    return [(*layout[:-1], ((call.outputs[0].shape[-1], None),))]


def _convolution(call: Operation, layouts: Any) -> list[Layout]:
    if any(tensor in layouts for tensor in call.tensors[1:]):
        raise Unknown
    move = Axis.spread if call["transposed"] else Axis.window
    kernel = call["weight"].shape[2:]
    return _windows(call, layouts, move, kernel, call["stride"], call["padding"], call["dilation"])


def _pool(call: Operation, layouts: Any) -> list[Layout]:
    kernel, stride = call["kernel_size"], call["stride"]
    dilation = call.get("dilation", 1)
    return _windows(call, layouts, Axis.window, kernel, stride or kernel, call["padding"], dilation)


def _windows(
    call: Operation,
    layouts: Any,
    move: Callable[..., Axis],
    kernel: Sequence[int],
    *how: int | Sequence[int],
) -> list[Layout]:
    """Moves each axis by its kernel, stride, padding and dilation."""
    axes = _axes(call, layouts, len(kernel))
    settings = zip(kernel, *(_each(each, len(kernel)) for each in how), strict=True)
    moved = []
    for axis, (size, *rest) in zip(axes, settings, strict=True):
        if axis is None and size != 1:
            raise Unknown
        moved.append(axis and move(axis, size, *rest))
    return _maps(call, layouts, moved)


def _adaptive_pool(call: Operation, layouts: Any) -> list[Layout]:
    """Where its windows are equal, an ordinary pool; else positions see differently much."""
    rank = int(call.name[-2])
    moved = []
    for axis, before, after in _resized(call, layouts, rank):
        if before % after or (after == 1 and before > 1):
            raise Unknown
        moved.append(axis and axis.window(before // after, before // after, 0))
    return _maps(call, layouts, moved)


def _upsample(call: Operation, layouts: Any) -> list[Layout]:
    taps = 1 if "nearest" in call.name else 4 if "bicubic" in call.name else 2
    moved = []
    for axis, before, after in _resized(call, layouts, call.outputs[0].dim() - 2):
        if axis is not None and before != after:
            size = axis.size + (taps - 1) * axis.stride
            axis = replace(axis, size=size, stride=axis.stride * Fraction(before, after))
        moved.append(axis)
    return _maps(call, layouts, moved)


def _resized(call: Operation, layouts: Any, rank: int) -> Iterator[tuple[Axis | None, int, int]]:
    """Each axis with its length before and after."""
    before, after = call.tensors[0].shape[-rank:], call.outputs[0].shape[-rank:]
    return zip(_axes(call, layouts, rank), before, after, strict=True)


def _pad(call: Operation, layouts: Any) -> list[Layout]:
    layout = list(_input(call, layouts))
    amounts = call.get("pad") or call["padding"]
    for place, before in enumerate(amounts[::2]):
        at = len(layout) - 1 - place
        length = call.outputs[0].shape[at]
        axis = only_axis(layout[at]) if sees(layout[at]) else None
        layout[at] = ((length, axis and axis.window(1, 1, before)),)
    return [tuple(layout)]


def _slice(call: Operation, layouts: Any) -> list[Layout]:
    layout = list(_input(call, layouts))
    at = call["dim"] % len(layout)
    axis = None
    if sees(layout[at]):
        whole = call.tensors[0].shape[at]
        start = min(max(0, (call["start"] or 0) + (whole if (call["start"] or 0) < 0 else 0)), whole)
        axis = only_axis(layout[at]).window(1, call["step"], -start)
    layout[at] = ((call.outputs[0].shape[at], axis),)
    return [tuple(layout)]


def _select(call: Operation, layouts: Any) -> list[Layout]:
    layout = list(_input(call, layouts))
    at = call["dim"] % len(layout)
    refuse_axes([layout[at]])
    return [tuple(layout[:at] + layout[at + 1 :])]


def _split(call: Operation, layouts: Any) -> list[Layout]:
    layout = list(_input(call, layouts))
    at = call["dim"] % len(layout)
    refuse_axes([layout[at]])
    whole = []
    for output in call.outputs:
        part = [((output.shape[at], None),)] if output.dim() == len(layout) else []
        whole.append(tuple(layout[:at] + part + layout[at + 1 :]))
    return whole


def _cat(call: Operation, layouts: Any) -> list[Layout]:
    at = call["dim"] % call.outputs[0].dim()
    if any(tensor not in layouts for tensor in call.tensors):
        raise Unknown
    parts = [_known(layouts, tensor) for tensor in call.tensors]
    refuse_axes([part[at] for part in parts])
    dims = [joined(list(same)) for same in zip(*parts, strict=True)]
    dims[at] = ((call.outputs[0].shape[at], None),)
    return [tuple(dims)]


def _permute(call: Operation, layouts: Any) -> list[Layout]:
    layout = _input(call, layouts)
    return [tuple(layout[at] for at in call["dims"])]


def _transpose(call: Operation, layouts: Any) -> list[Layout]:
    layout = list(_input(call, layouts))
    one, other = (call.get("dim0", 0), call.get("dim1", len(layout) - 1))
    layout[one], layout[other] = layout[other], layout[one]
    return [tuple(layout)]


def _expand(call: Operation, layouts: Any) -> list[Layout]:
    layout, shape = _input(call, layouts), call.outputs[0].shape
    fresh = len(shape) - len(layout)
    result = []
    for at, length in enumerate(shape):
        dim = layout[at - fresh] if at >= fresh else ((1, None),)
        if length_of(dim) != length:
            refuse_axes([dim])
            dim = ((length, None),)
        result.append(dim)
    return [tuple(result)]


def _view(call: Operation, layouts: Any) -> list[Layout]:
    """Merges dimensions or takes them apart; one that mixes positions with something else cannot be cut."""
    factors = [factor for dim in _input(call, layouts) for factor in dim]
    result: list[Dim] = []
    for length in call.outputs[0].shape:
        dim: list[tuple[int, Axis | None]] = []
        while length_of(dim) < length or (length == 1 and not dim and factors and factors[0][0] == 1):
            if not factors:
                raise Unknown
            size, axis = factors.pop(0)
            missing = length // length_of(dim)
            if size > missing:
                if axis is not None or size % missing:
                    raise Unknown
                factors.insert(0, (size // missing, None))
                size = missing
            dim.append((size, axis))
        result.append(tuple(dim))
    if any(size != 1 for size, _ in factors) or (factors and not result):
        raise Unknown
    if factors:
        result[-1] = (*result[-1], *factors)
    return [tuple(result)]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(("clone", "detach", "alias", "_to_copy", "native_dropout"), _same),
    # Without torch's mark of what works point by point.
    **dict.fromkeys(("hardswish", "_prelu_kernel", "log_sigmoid_forward", "masked_fill", "rsub"), _pointwise),
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "_reshape_alias"), _view),
    **dict.fromkeys(("transpose", "t", "numpy_T"), _transpose),
    **dict.fromkeys(("addmm", "linear"), _linear),
    **dict.fromkeys(("mm", "bmm"), _matrix_product),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "_softmax", "_log_softmax", "var"), _reduction),
    **dict.fromkeys(("split", "split_with_sizes", "unbind", "chunk"), _split),
    **dict.fromkeys((f"{kind}_pool{rank}d" for kind in ("max", "avg") for rank in (1, 2, 3)), _pool),
    **dict.fromkeys((f"max_pool{rank}d_with_indices" for rank in (1, 2, 3)), _pool),
    **dict.fromkeys((f"_adaptive_avg_pool{rank}d" for rank in (1, 2, 3)), _adaptive_pool),
    **dict.fromkeys((f"adaptive_max_pool{rank}d" for rank in (1, 2, 3)), _adaptive_pool),
    **dict.fromkeys((f"{kind}_pad{rank}d" for kind in ("reflection", "replication") for rank in (1, 2, 3)), _pad),
    "constant_pad_nd": _pad,
    "convolution": _convolution,
    "native_layer_norm": _layer_norm,
    "permute": _permute,
    "expand": _expand,
    "slice": _slice,
    "select": _select,
    "cat": _cat,
}


def _input(call: Operation, layouts: Any) -> Layout:
    return _known(layouts, call.tensors[0])


def _known(layouts: Any, tensor: Tensor) -> Layout:
    layout: Layout | None = layouts.get(tensor)
    if layout is None:
        raise Unknown
    return layout


def _axes(call: Operation, layouts: Any, rank: int) -> list[Axis | None]:
    """The axes of the last dimensions of a tensor [N, C, ...] or [C, ...]; None for one of a single position."""
    layout = _input(call, layouts)
    leading, spatial = layout[:-rank], layout[-rank:]
    if len(leading) not in (1, 2) or sees([factor for dim in leading for factor in dim]):
        raise Unknown
    return [only_axis(dim) if sees(dim) else None for dim in spatial]


def _maps(call: Operation, layouts: Any, axes: Sequence[Axis | None]) -> list[Layout]:
    """Layouts [N, C, ...] or [C, ...], one for each output."""
    shape = call.outputs[0].shape
    rank = len(axes)
    batch = _input(call, layouts)[: len(shape) - rank - 1]
    spatial: list[Dim] = [((length, axis),) for length, axis in zip(shape[-rank:], axes, strict=True)]
    layout = (*batch, ((shape[-rank - 1], None),), *spatial)
    return [layout] * len(call.outputs)


def _each(value: int | Sequence[int], count: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values
