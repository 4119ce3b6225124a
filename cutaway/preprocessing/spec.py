"""The one description of how a decoded picture becomes a network's input, with its numpy and PIL form.

It travels in the bundle and in the ONNX file, so training, inspection, export and serving cannot disagree.
The order is fixed: colour, resize, centre crop or padding, scale to [0, 1], normalise, channels first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from cutaway.errors import ImageError

Color = Literal["rgb", "grey", "grey3"]
Resize = Literal["stretch", "shorter", "pad"]
Interpolation = Literal["bilinear", "bicubic"]

Pixels = npt.NDArray[np.uint8]

MOST_RESIZED_PIXELS = 2**24
FILL = 128
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Preprocessing(BaseModel):
    """From decoded pixels to network input.

    Attributes:
        size: Height and width of the network's input, in pixels.
        color: `rgb` (three channels), `grey` (one channel of luma) or `grey3` (luma repeated three times).
        resize: `stretch` resizes straight to `size` and may change the aspect ratio; `shorter` resizes the shorter
            side to `resize_to` pixels, keeps the aspect ratio and cuts `size` out of the centre; `pad` makes it as
            large as fits into `size`, keeps the aspect ratio and puts it in the middle of grey.
        resize_to: Length in pixels of the shorter side before the crop, with `shorter` only.
        fill: Grey level around the picture, with `pad` only.
        interpolation: PIL's filter, always antialiased.
        mean: Per channel, in units of the [0, 1] range.
        std: Per channel, in units of the [0, 1] range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[int, int]
    color: Color = "rgb"
    resize: Resize = "stretch"
    resize_to: int | None = Field(default=None, ge=1, le=16384)
    fill: int = Field(default=FILL, ge=0, le=255)
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _is_consistent(self) -> Preprocessing:
        height, width = self.size
        if not (1 <= height <= 16384 and 1 <= width <= 16384):
            raise ValueError(f"size must lie between 1 and 16384 pixels, not {height}x{width}")
        if self.resize == "shorter" and (self.resize_to is None or self.resize_to < max(self.size)):
            raise ValueError(f"resize 'shorter' needs resize_to of at least {max(self.size)}, not {self.resize_to}")
        if self.resize != "shorter" and self.resize_to is not None:
            raise ValueError("resize_to belongs to resize 'shorter' only")
        if self.resize != "pad" and self.fill != FILL:
            raise ValueError("fill belongs to resize 'pad' only")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need {self.channels} values, not {len(self.mean)} and {len(self.std)}")
        if not all(np.isfinite(self.mean)) or not all(np.isfinite(self.std)) or min(self.std) <= 0:
            raise ValueError("mean and std must be finite, and std above 0")
        return self

    @model_serializer(mode="wrap")
    def _without_a_fill_that_fills_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What was described before there was padding keeps its bytes, and with them its digest.
        return {name: value for name, value in handler(self).items() if name != "fill" or self.resize == "pad"}

    @property
    def channels(self) -> int:
        """Channels of the network's input: 1 or 3."""
        return 1 if self.color == "grey" else 3

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the network's input."""
        return (self.channels, *self.size)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the resize and before crop or padding, for a picture of `height` x `width` pixels."""
        if self.resize == "pad":
            rows, columns = self.size
            return fitted(height, width, rows, columns), fitted(width, height, columns, rows)
        if self.resize == "stretch" or self.resize_to is None:
            return self.size
        # torchvision's Resize truncates the longer side; the same rule keeps old checkpoints' pixels the same.
        if height <= width:
            return self.resize_to, int(self.resize_to * width / height)
        return int(self.resize_to * height / width), self.resize_to

    def crop_offset(self, height: int, width: int) -> tuple[int, int]:
        """Top and left of the network's input in a resized picture; negative where the picture is padded.

        Rounded half to even, as torchvision's CenterCrop and PIL's `ImageOps.pad` do.
        """
        return round((height - self.size[0]) / 2), round((width - self.size[1]) / 2)

    def picture(self, image: Pixels) -> Pixels:
        """What the network will see, still as pixels.

        Args:
            image: uint8 [H, W, 3] or [H, W, 1], decoded.

        Raises:
            ImageError: With `shorter`, so narrow a strip that the resize would take gigabytes.

        Returns:
            uint8 [h, w, C] with `size` and `channels` of this description.
        """
        image = _with_color(image, self.color)
        height, width = self.resized(image.shape[0], image.shape[1])
        _check_resized(image, height, width)
        if (height, width) != image.shape[:2]:
            resample = Image.Resampling.BILINEAR if self.interpolation == "bilinear" else Image.Resampling.BICUBIC
            flat = image[:, :, 0] if image.shape[2] == 1 else image
            pillow = Image.fromarray(flat)
            if image.shape[0] > 100 * image.shape[1]:
                # For such strips alone Pillow would do the vertical pass first, and round differently.
                pillow = pillow.resize((width, image.shape[0]), resample)
            resized = np.asarray(pillow.resize((width, height), resample))
            image = resized.reshape(height, width, image.shape[2])
        top, left = self.crop_offset(height, width)
        if self.resize == "pad":
            padded = np.full((*self.size, image.shape[2]), self.fill, np.uint8)
            padded[-top : height - top, -left : width - left] = image
            return padded
        return np.ascontiguousarray(image[top : top + self.size[0], left : left + self.size[1]])

    def normalise(self, pictures: Pixels) -> npt.NDArray[np.float32]:
        """Scales and normalises what `picture` returned.

        Args:
            pictures: uint8 [N, h, w, C].

        Returns:
            float32 [N, C, h, w].
        """
        scaled = pictures.astype(np.float32) / np.float32(255)
        normalised = (scaled - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))


def imagenet(size: int = 224, resize_to: int | None = None) -> Preprocessing:
    """The preprocessing that torchvision's ImageNet weights were validated with.

    Args:
        size: Side of the input in pixels.
        resize_to: The shorter side before the middle is cut out; by default 8/7 of the size, so 256 for 224.
    """
    resize_to = round(size * 8 / 7) if resize_to is None else resize_to
    return Preprocessing(size=(size, size), resize="shorter", resize_to=resize_to, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def fitted(
    side: int,
    other: int,
    most: int,
    most_of_other: int,
    *,
    smaller: Callable[[int, int], int] = min,
    larger: Callable[[int, int], int] = max,
) -> int:
    """One side of the largest picture of the same shape that fits into another.

    In integers and without branches, so that the torch form can do the same with sides that are symbols.

    Args:
        side: Of the picture, in pixels.
        other: Its other side.
        most: What the side may be.
        most_of_other: What the other one may be.
        smaller: The smaller of two numbers.
        larger: The larger.

    Returns:
        At least 1; rounded half to even, as PIL's `ImageOps.contain` does.
    """
    scaled = side * most_of_other
    rounded = (2 * scaled + other - 1 + scaled // other % 2) // (2 * other)
    return larger(1, smaller(most, rounded))


def _check_resized(image: Pixels, height: int, width: int) -> None:
    """Refuses a strip that a resize of its shorter side would blow up to gigabytes before the crop."""
    if height * width > max(MOST_RESIZED_PIXELS, image.shape[0] * image.shape[1]):
        raise ImageError(
            f"A picture of {image.shape[1]}x{image.shape[0]} pixels is too narrow a strip to cut a centre out of.",
            hint="Cut it to the part that matters first.",
        )


def _with_color(image: Pixels, color: Color) -> Pixels:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"expected uint8 [H, W, 1 or 3], got {image.dtype} {list(image.shape)}")
    if color == "rgb":
        return image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)
    grey = image if image.shape[2] == 1 else luma(image)
    return grey if color == "grey" else np.repeat(grey, 3, axis=2)


def luma(image: Pixels) -> Pixels:
    """ITU-R 601 luma in PIL's integer arithmetic: uint8 [..., 3] -> uint8 [..., 1]; grey pixels keep their value."""
    weighted = image.astype(np.uint32) @ np.array([19595, 38470, 7471], dtype=np.uint32)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)[..., None]
