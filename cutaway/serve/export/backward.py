"""Backward passes of the operators that ONNX and PyTorch's decompositions leave open, as forward operators.

All shapes but the batch are numbers while tracing. Only the gradient by the input is ever asked for: the target layer
is cut out of the autograd graph as its root, so no weight is differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn import functional

aten = torch.ops.aten


def convolution_backward(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, None, None]:
    """The gradient of a convolution by its input is the convolution the other way round, with the same weight.

    gradient [N, C_out, *out], inputs [N, C_in, *in] -> [N, C_in, *in], and no gradients of weight and bias. The weight
    is [C_out, C_in / groups, *kernel], for a transposed convolution [C_in, C_out / groups, *kernel].
    """
    assert not any(output_mask[1:]), "no weight is differentiated"
    if transposed:
        back = aten.convolution(gradient, weight, None, stride, padding, dilation, False, [0] * len(stride), groups)
        return back, None, None
    # A strided convolution may not reach the last rows of its input; they are what the plain transpose lacks.
    lacking = [
        inputs.shape[2 + i]
        - ((gradient.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (weight.shape[2 + i] - 1) + 1)
        for i in range(len(stride))
    ]
    back = aten.convolution(gradient, weight, None, stride, padding, dilation, True, lacking, groups)
    return back, None, None


def max_pool2d_backward(
    gradient: Tensor,
    inputs: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    indices: Tensor,
) -> Tensor:
    """Each output's gradient goes to the one position that was its maximum; windows that overlap add up.

    gradient [N, C, h, w], inputs [N, C, H, W] -> [N, C, H, W]. `indices`, int64 [N, C, h, w], are the maxima's
    positions in the flattened H x W plane.
    """
    return _scattered(gradient, inputs, indices)


def adaptive_max_pool2d_backward(gradient: Tensor, inputs: Tensor, indices: Tensor) -> Tensor:
    """As `max_pool2d_backward`, with the same meaning of `indices`."""
    return _scattered(gradient, inputs, indices)


def avg_pool2d_backward(
    gradient: Tensor,
    inputs: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """Average pooling is linear and separable: out = R @ in @ Cᵀ, so its gradient is Rᵀ @ gradient @ C.

    gradient [N, C, h, w], inputs [N, C, H, W] -> [N, C, H, W]; R is [h, H] and C is [w, W].
    """
    kernel, pad = _pair(kernel_size), _pair(padding)
    step = _pair(stride) if len(stride) else kernel
    rows, columns = (
        _window_means(inputs, axis, gradient.shape[2 + axis], kernel[axis], step[axis], pad[axis], count_include_pad)
        for axis in (0, 1)
    )
    if divisor_override is not None:
        rows, columns = (rows > 0).to(rows.dtype) / divisor_override, (columns > 0).to(columns.dtype)
    return rows.t() @ gradient @ columns


def adaptive_avg_pool2d_backward(gradient: Tensor, inputs: Tensor) -> Tensor:
    """As `avg_pool2d_backward`, with window i of n covering floor(i H / n) to ceil((i + 1) H / n)."""
    rows, columns = (_adaptive_means(inputs, axis, gradient.shape[2 + axis]) for axis in (0, 1))
    return rows.t() @ gradient @ columns


def silu_backward(gradient: Tensor, inputs: Tensor) -> Tensor:
    """Of x s with s = sigmoid(x): s (1 + x (1 - s))."""
    gate = inputs.sigmoid()
    return gradient * gate * (1 + inputs * (1 - gate))


def mish_backward(gradient: Tensor, inputs: Tensor) -> Tensor:
    """Of x t with t = tanh(softplus(x)): t + x sigmoid(x) (1 - t^2)."""
    gate = functional.softplus(inputs).tanh()
    return gradient * (gate + inputs * inputs.sigmoid() * (1 - gate * gate))


def decompositions() -> Mapping[OpOverload, Callable[..., Any]]:
    """Operator to decomposition, for `make_fx`; the exporter itself decomposes every other backward operator."""
    return {
        aten.convolution_backward.default: convolution_backward,
        aten.max_pool2d_with_indices_backward.default: max_pool2d_backward,
        aten.adaptive_max_pool2d_backward.default: adaptive_max_pool2d_backward,
        aten.avg_pool2d_backward.default: avg_pool2d_backward,
        aten._adaptive_avg_pool2d_backward.default: adaptive_avg_pool2d_backward,
        aten.silu_backward.default: silu_backward,
        aten.mish_backward.default: mish_backward,
    }


def _scattered(gradient: Tensor, inputs: Tensor, indices: Tensor) -> Tensor:
    planes = torch.zeros_like(inputs).flatten(2)
    # PyTorch counts within a plane and ONNX through the whole tensor. The converter takes off what came before the
    # plane, which not every runtime computes as it expects; the remainder is right either way.
    places = indices.flatten(2) % planes.shape[2]
    return planes.scatter_add(2, places, gradient.flatten(2)).reshape(inputs.shape)


def _window_means(
    inputs: Tensor, axis: int, outputs: int, kernel: int, stride: int, padding: int, count_include_pad: bool
) -> Tensor:
    """Matrix [outputs, side] that averages windows of `kernel` every `stride`, for one axis of [N, C, H, W]."""
    side = inputs.shape[2 + axis]
    first = torch.arange(outputs, device=inputs.device)[:, None] * stride - padding
    # With ceil_mode the last window may hang over the padding; PyTorch does not count what hangs over.
    last = (first + kernel).clamp(max=side + padding)
    inside = last.clamp(max=side) - first.clamp(min=0)
    return _covered(inputs, side, first, last) / (last - first if count_include_pad else inside)


def _adaptive_means(inputs: Tensor, axis: int, outputs: int) -> Tensor:
    """Matrix [outputs, side] of adaptive average pooling, for one axis of [N, C, H, W]."""
    side = inputs.shape[2 + axis]
    index = torch.arange(outputs, device=inputs.device)[:, None]
    first, last = index * side // outputs, ((index + 1) * side + outputs - 1) // outputs
    return _covered(inputs, side, first, last) / (last - first)


def _covered(inputs: Tensor, side: int, first: Tensor, last: Tensor) -> Tensor:
    position = torch.arange(side, device=inputs.device)
    return ((position >= first) & (position < last)).to(inputs.dtype)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return (values[0], values[-1])
