"""The torch form of preprocessing against PIL and torchvision."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision import models
from torchvision.transforms import v2

from cutaway.errors import ImageError
from cutaway.preprocessing import Preprocessing, imagenet
from cutaway.preprocessing.tensors import Preprocess


def noise(seed: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


sides = st.integers(1, 97)
ANY = {
    "seed": st.integers(0, 99),
    "source": st.tuples(sides, sides),
    "size": st.tuples(sides, sides),
    "interpolation": st.sampled_from(["bilinear", "bicubic"]),
    "color": st.sampled_from(["rgb", "grey", "grey3"]),
}


@settings(max_examples=150, deadline=None)
@given(**ANY)
def test_stretched_pixels_are_pil_s_to_the_bit(seed, source, size, interpolation, color):
    channels = 1 if color == "grey" else 3
    spec = Preprocessing(
        size=size, color=color, interpolation=interpolation, mean=(0.5,) * channels, std=(0.5,) * channels
    )
    image = noise(seed, *source)
    ours = Preprocess(spec).picture(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()
    assert np.array_equal(ours, spec.picture(image))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 99), source=st.tuples(sides, sides), size=sides, extra=st.integers(0, 9))
def test_shorter_side_and_centre_crop_are_torchvision_s(seed, source, size, extra):
    spec = Preprocessing(size=(size, size), resize="shorter", resize_to=size + extra, mean=(0.5,) * 3, std=(0.5,) * 3)
    image = noise(seed, *source)
    theirs = v2.Compose([v2.Resize(size + extra), v2.CenterCrop(size)])(Image.fromarray(image))
    assert np.array_equal(spec.picture(image), np.asarray(theirs))
    ours = Preprocess(spec).picture(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()
    assert np.array_equal(ours, np.asarray(theirs))


@settings(max_examples=150, deadline=None)
@given(**ANY, fill=st.integers(0, 255))
def test_padded_pixels_are_pil_s_to_the_bit(seed, source, size, interpolation, color, fill):
    channels = 1 if color == "grey" else 3
    spec = Preprocessing(
        size=size,
        color=color,
        resize="pad",
        fill=fill,
        interpolation=interpolation,
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )
    image = noise(seed, *source)
    pixels = spec.picture(image)
    ours = Preprocess(spec).picture(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()
    assert np.array_equal(ours, pixels)
    assert np.array_equal(spec.picture(pixels), pixels)
    (height, width), (most_high, most_wide) = source, size
    # PIL computes the sides in floating point, which may miss a tie; and it fails where one would be 0.
    doubled = [2 * height * most_wide / width, 2 * width * most_high / height]
    if all(abs(side - round(side)) > 1e-6 or round(side) % 2 == 0 for side in doubled) and min(doubled) > 1.1:
        photo = Image.fromarray(image).convert({"rgb": "RGB"}.get(color, "L"))
        filter_ = Image.Resampling.BILINEAR if interpolation == "bilinear" else Image.Resampling.BICUBIC
        theirs = ImageOps.pad(photo, size[::-1], filter_, color=fill if photo.mode == "L" else (fill,) * 3)
        theirs = np.asarray(theirs).reshape(*size, -1)
        assert np.array_equal(pixels, np.repeat(theirs, 3, axis=2) if color == "grey3" else theirs)


def test_padding_by_hand():
    spec = Preprocessing(size=(4, 4), resize="pad", fill=9, mean=(0.5,) * 3, std=(0.5,) * 3)
    wide = np.full((3, 12, 3), 200, np.uint8)
    assert spec.resized(3, 12) == (1, 4)
    assert spec.crop_offset(1, 4) == (-2, 0)
    # Of three rows of grey two are above, as PIL puts them.
    assert spec.picture(wide)[:, :, 0].tolist() == [[9] * 4, [9] * 4, [200] * 4, [9] * 4]
    # No picture is too narrow a strip to be shown whole.
    assert spec.resized(1, 5000) == (1, 4)
    assert spec.picture(np.zeros((5000, 1, 3), np.uint8))[:, :, 0].sum() == 9 * 12


def test_descriptions_without_padding_are_written_as_they_were_before_there_was_any():
    assert "fill" not in imagenet().model_dump()
    assert "fill" not in imagenet().model_dump_json()
    padded = Preprocessing(size=(4, 4), resize="pad", color="grey", mean=(0.1,), std=(1.0,))
    assert padded.model_dump()["fill"] == 128
    for spec in (imagenet(), padded):
        assert Preprocessing.model_validate(spec.model_dump()) == spec


def test_large_photo_is_pil_s_to_the_bit():
    image = noise(1, 701, 1033)
    spec = imagenet()
    ours = Preprocess(spec).picture(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()
    assert np.array_equal(ours, spec.picture(image))


def test_luma_is_pil_s():
    image = noise(2, 50, 60)
    spec = Preprocessing(size=(50, 60), color="grey", mean=(0.0,), std=(1.0,))
    assert np.array_equal(spec.picture(image)[:, :, 0], np.asarray(Image.fromarray(image).convert("L")))


def test_a_grey_picture_survives_the_way_through_rgb():
    grey = noise(3, 28, 28, channels=1)
    spec = Preprocessing(size=(28, 28), color="grey", mean=(0.2860,), std=(0.3530,))
    assert np.array_equal(spec.picture(np.repeat(grey, 3, axis=2)), grey)
    both = [Preprocess(spec)(torch.from_numpy(x)[None]) for x in (grey, np.repeat(grey, 3, axis=2))]
    assert torch.equal(*both)


def test_normalised_values_by_hand():
    spec = Preprocessing(size=(1, 2), color="grey", mean=(0.25,), std=(0.5,))
    pixels = np.array([[[0], [255]]], dtype=np.uint8)
    assert spec.normalise(pixels[None]).ravel().tolist() == [-0.5, 1.5]
    assert Preprocess(spec)(torch.from_numpy(pixels)[None]).ravel().tolist() == [-0.5, 1.5]


@pytest.mark.parametrize(
    "changes",
    [
        {"size": (0, 4)},
        {"std": (0.0,)},
        {"mean": (float("nan"),)},
        {"mean": (0.1, 0.2)},
        {"resize": "shorter"},
        {"resize_to": 300},
        {"resize": "pad", "resize_to": 300},
        {"resize": "pad", "fill": 256},
        {"resize": "shorter", "resize_to": 5, "fill": 0},
        {"surprise": 1},
    ],
)
def test_a_description_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValueError):
        Preprocessing(**({"size": (4, 4), "color": "grey", "mean": (0.1,), "std": (1.0,)} | changes))


def test_a_strip_that_a_few_bytes_blow_up_to_gigabytes_is_refused():
    spec = imagenet()
    assert spec.picture(noise(0, 2, 300)).shape == (224, 224, 3)
    with pytest.raises(ImageError, match="5000x1 pixels is too narrow"):
        spec.picture(noise(0, 1, 5000))


@pytest.mark.parametrize("source", [(201, 2), (300, 2), (201, 1), (2, 201), (199, 2)])
def test_strips_over_a_hundred_times_as_high_as_wide_go_the_same_way_in_both_forms(source):
    """Pillow turns its two passes round for them."""
    spec = Preprocessing(size=(28, 28), color="grey", mean=(0.5,), std=(0.5,))
    image = noise(0, *source)
    ours = Preprocess(spec).picture(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()
    assert np.array_equal(ours, spec.picture(image))


def test_imagenets_pictures_are_shrunk_by_the_same_share_at_every_size():
    for model in ("ResNet18", "Inception_V3"):
        own = models.get_weight(f"{model}_Weights.IMAGENET1K_V1").transforms()
        spec = imagenet(own.crop_size[0])
        assert ([spec.resize_to], list(spec.size)) == (own.resize_size, own.crop_size * 2)
    assert imagenet(64).resize_to == 73
