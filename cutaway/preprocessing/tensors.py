"""`Preprocessing` as a torch module: the same pixels as PIL's, batched, on any device, and exportable to ONNX.

PIL resizes 8-bit pictures in fixed point: coefficients of 22 fractional bits, one rounding after each of the two
passes (Pillow, `src/libImaging/Resample.c`). Those integers are far below 2**53, so the same sums in float64 are
exact whatever their order, and two matrix products give PIL's pixels to the bit, in torch and in ONNX Runtime alike.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from cutaway.preprocessing.spec import Interpolation, Preprocessing, fitted

PRECISION_BITS = 22


class Preprocess(nn.Module):
    """uint8 [N, H, W, 1 or 3] -> float32 [N, C, h, w]: what `Preprocessing` describes.

    The number of pictures, their height and their width may be symbolic while tracing.
    """

    def __init__(self, spec: Preprocessing) -> None:
        super().__init__()
        self.spec = spec
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(spec.mean).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).reshape(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W, 1 or 3] -> float32 [N, C, h, w], normalised."""
        return self.normalise(self.picture(images))

    def picture(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W, 1 or 3] -> grey levels as float32 [N, C, h, w], before normalisation."""
        pixels = self._with_color(images.permute(0, 3, 1, 2))
        height, width = self._resized(pixels.shape[2], pixels.shape[3])

        def as_it_is(pixels: Tensor) -> Tensor:
            return self._framed(pixels, height, width).float()

        def resized(pixels: Tensor) -> Tensor:
            return self._framed(self._resize(pixels, height, width), height, width).float()

        if isinstance(pixels.shape[2], int) and isinstance(pixels.shape[3], int):
            return (as_it_is if (height, width) == tuple(pixels.shape[2:]) else resized)(pixels)
        # While tracing the choice goes into the graph: resizing to the same size costs as much as a small network.
        rows, columns = (torch.scalar_tensor(side, dtype=torch.int64) for side in pixels.shape[2:])
        same = torch.logical_and(rows == height, columns == width)
        chosen: Tensor = torch.cond(same, as_it_is, resized, (pixels,))
        return chosen

    def normalise(self, pixels: Tensor) -> Tensor:
        """Grey levels [N, C, h, w] -> float32 [N, C, h, w]."""
        return (pixels.float() / 255 - self.mean) / self.std

    def _with_color(self, pixels: Tensor) -> Tensor:
        channels = pixels.shape[1]
        if self.spec.color != "rgb" and channels == 3:
            # All values stay below 2**24, so float32 carries PIL's integer formula exactly.
            red, green, blue = pixels.float().unbind(1)
            weighted = red * 19595 + green * 38470 + blue * 7471 + 0x8000
            pixels = torch.floor(weighted / 65536).unsqueeze(1)
        if self.spec.channels == 3 and pixels.shape[1] == 1:
            pixels = pixels.repeat(1, 3, 1, 1)
        return pixels

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if isinstance(height, int) and isinstance(width, int):
            return self.spec.resized(height, width)
        if self.spec.resize == "pad":
            fit = partial(fitted, smaller=torch.sym_min, larger=torch.sym_max)
            return fit(height, width, *self.spec.size), fit(width, height, *self.spec.size[::-1])
        if self.spec.resize == "stretch" or self.spec.resize_to is None:
            return self.spec.size
        shorter = torch.sym_min(height, width)
        # At least one of the two factors is the shorter side, so its quotient is exact.
        return self.spec.resize_to * height // shorter, self.spec.resize_to * width // shorter

    def _resize(self, pixels: Tensor, height: int, width: int) -> Tensor:
        if pixels.device.type == "mps":  # it has no float64, in which alone these sums are exact
            return self._resize(pixels.cpu(), height, width).float().to(pixels.device)
        pixels = pixels.double()
        across = _coefficients(pixels.shape[3], width, self.spec.interpolation, pixels.device)
        down = _coefficients(pixels.shape[2], height, self.spec.interpolation, pixels.device)
        return _rounded(down @ _rounded(pixels @ across.t()))

    def _framed(self, pixels: Tensor, height: int, width: int) -> Tensor:
        """Cuts `size` out of the centre of pictures of `height` x `width`, or puts them in the middle of grey."""
        if isinstance(pixels.shape[2], int) and tuple(pixels.shape[2:]) == self.spec.size:
            return pixels
        if self.spec.resize == "pad":
            return self._padded(pixels, height, width)
        top, left = _half_to_even(height - self.spec.size[0]), _half_to_even(width - self.spec.size[1])
        rows = top + torch.arange(self.spec.size[0], device=pixels.device)
        columns = left + torch.arange(self.spec.size[1], device=pixels.device)
        return pixels.index_select(2, rows).index_select(3, columns)

    def _padded(self, pixels: Tensor, height: int, width: int) -> Tensor:
        # Not `F.pad`, whose output would have dimensions of which a graph cannot tell that they are those of `size`.
        above, before = _half_to_even(self.spec.size[0] - height), _half_to_even(self.spec.size[1] - width)
        rows = torch.arange(self.spec.size[0], device=pixels.device) - above
        columns = torch.arange(self.spec.size[1], device=pixels.device) - before
        inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
        taken = pixels.index_select(2, rows.clamp(0, height - 1)).index_select(3, columns.clamp(0, width - 1))
        return torch.where(inside, taken, torch.full((), self.spec.fill, dtype=taken.dtype, device=taken.device))


def _coefficients(source: int, target: int, interpolation: Interpolation, device: torch.device) -> Tensor:
    """PIL's integer filter coefficients as a float64 matrix [target, source]."""
    scale = torch.scalar_tensor(source, dtype=torch.float64, device=device) / target
    stretch = scale.clamp(min=1.0)
    support = stretch * (1.0 if interpolation == "bilinear" else 2.0)
    centre = (torch.arange(target, dtype=torch.float64, device=device) + 0.5) * scale
    first = torch.floor(centre - support + 0.5).clamp(min=0)
    last = torch.floor(centre + support + 0.5).clamp(max=source)
    position = torch.arange(source, dtype=torch.float64, device=device)
    distance = (position[None] - centre[:, None] + 0.5) * (1.0 / stretch)
    weights = _triangle(distance) if interpolation == "bilinear" else _cubic(distance)
    weights = weights * ((position[None] >= first[:, None]) & (position[None] < last[:, None]))
    weights = weights / weights.sum(1, keepdim=True)
    scaled = weights * (1 << PRECISION_BITS)
    return torch.where(scaled < 0, torch.ceil(scaled - 0.5), torch.floor(scaled + 0.5))


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution with a = -0.5, as PIL's BICUBIC."""
    a = -0.5
    x = x.abs()
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, torch.zeros_like(x)))


def _rounded(sums: Tensor) -> Tensor:
    return torch.floor(sums / (1 << PRECISION_BITS) + 0.5).clamp(0, 255)


def _half_to_even(doubled: int) -> int:
    """`round(doubled / 2)` in integer arithmetic, so that it can be traced."""
    half = doubled // 2
    return half + (doubled % 2) * (half % 2)
