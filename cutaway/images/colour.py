"""Grey, CMYK, CIELAB and whatever an ICC profile describes -> sRGB."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from cutaway.images.raster import Pixels, Space

MAX_PROFILE_BYTES = 4 * 2**20

_MODES: dict[Space, str] = {"grey": "L", "rgb": "RGB", "cmyk": "CMYK", "lab": "LAB"}
# The profile's own colour space, at byte 16 of its header (ICC.1:2022, 7.2).
_SIGNATURES: dict[Space, bytes] = {"grey": b"GRAY", "rgb": b"RGB ", "cmyk": b"CMYK", "lab": b"Lab "}
_CLASSES = (b"scnr", b"mntr", b"prtr", b"spac")
# Differences this small are rounding: such a profile is sRGB under another name, and pixels stay as they are.
_SAME = 1
_LEVELS = np.arange(256, dtype=np.uint8).reshape(1, 256, 1)


def to_srgb(samples: Pixels, space: Space, icc: bytes | None) -> Pixels:
    """Converts to sRGB.

    Args:
        samples: uint8 [H, W, C] in `space`.
        space: `grey`, `rgb`, `cmyk` (0 for no ink) or `lab` (CIELAB, D50).
        icc: A colour profile. One that is broken or belongs to another colour space is ignored.

    Returns:
        uint8 [H, W, 3].
    """
    transform = None if icc is None or len(icc) > MAX_PROFILE_BYTES else _transform(icc, space)
    if transform is not None and space == "grey":
        table: Pixels = _applied(transform, _LEVELS, space)[0]
        return table[samples[:, :, 0]]
    if transform is not None:
        return _applied(transform, samples, space)
    if space == "rgb":
        return samples
    if space == "grey":
        return np.repeat(samples, 3, axis=2)
    if space == "cmyk":
        return np.asarray(_image(samples, space).convert("RGB"))
    return _applied(_lab_transform(), samples, space)


@lru_cache(maxsize=8)
def _transform(icc: bytes, space: Space) -> ImageCms.ImageCmsTransform | None:
    """A transform into sRGB, or None where the profile is unfit, or is sRGB itself. Transforms are thread-safe."""
    if icc[12:16] not in _CLASSES or icc[16:20] != _SIGNATURES[space] or icc[36:40] != b"acsp":
        return None
    try:
        transform = _built(ImageCms.ImageCmsProfile(io.BytesIO(icc)), space)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if space == "rgb":
        steps = np.arange(0, 256, 17, dtype=np.uint8)
        probe = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        unchanged = probe
    elif space == "grey":
        probe = _LEVELS
        unchanged = np.repeat(probe, 3, axis=2)
    else:
        return transform
    moved = np.abs(_applied(transform, probe, space).astype(np.int16) - unchanged)
    return None if moved.max() <= _SAME else transform


@lru_cache(maxsize=1)
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return _built(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "lab")


def _built(profile: ImageCms.ImageCmsProfile, space: Space) -> ImageCms.ImageCmsTransform:
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if space == "grey":
        # littleCMS would otherwise sample the curve at 33 points, ten levels off in the shadows.
        flags |= ImageCms.Flags.NOOPTIMIZE
    return ImageCms.ImageCmsTransform(
        profile,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        _MODES[space],
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=flags,
    )


def _applied(transform: ImageCms.ImageCmsTransform, samples: Pixels, space: Space) -> Pixels:
    return np.asarray(transform.apply(_image(samples, space)))


def _image(samples: Pixels, space: Space) -> Image.Image:
    height, width = samples.shape[:2]
    return Image.frombytes(_MODES[space], (width, height), np.ascontiguousarray(samples).tobytes())
