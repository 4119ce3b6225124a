"""Colour profiles written by hand, converted by hand; CMYK, YCbCr and CIELAB."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from cutaway.images import decode
from cutaway.images.colour import MAX_PROFILE_BYTES

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.filterwarnings("ignore::ResourceWarning")]

# Columns are the primaries' XYZ, adapted to D50 as profiles store them.
SRGB_D50 = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
DISPLAY_P3_D50 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
GAMMA = 563 / 256  # as curves store 2.2


def srgb_curve(linear):
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


def fixed(value):
    return struct.pack(">i", round(value * 65536))


def profile(space: bytes, kind: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2.4 (ICC.1:2001-04)."""
    white = b"XYZ \0\0\0\0" + fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    tags = {b"wtpt": white, **tags}
    table, bodies, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        table += name + struct.pack(">II", offset + len(bodies), len(body))
        bodies += body + b"\0" * (-len(body) % 4)
    size = offset + len(bodies)
    header = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, kind, space, pcs) + b"\0" * 12 + b"acsp"
    header = header.ljust(68, b"\0") + fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + bodies


def curve(gamma):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def matrix_profile(primaries):
    tags = {}
    for name, column in zip((b"r", b"g", b"b"), primaries.T, strict=True):
        tags[name + b"XYZ"] = b"XYZ \0\0\0\0" + b"".join(map(fixed, column))
        tags[name + b"TRC"] = curve(2.2)
    return profile(b"RGB ", b"mntr", tags)


def black_only_profile():
    """A CMYK profile of a press on which cyan, magenta and yellow leave no trace: L* = 100 (1 - K)."""
    corners = [[255 * (1 - black), 128, 128] for _ in range(8) for black in (0, 1)]
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + b"".join(map(fixed, np.eye(3).ravel()))
    table += ramp * 4 + bytes(np.array(corners, dtype=np.uint8)) + ramp * 3
    return profile(b"CMYK", b"prtr", {b"A2B0": table}, pcs=b"Lab ")


PATCHES = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 120, 40], [30, 60, 200], [128, 128, 128], [255, 255, 255]]],
    dtype=np.uint8,
)


class TestProfiles:
    def test_display_p3_by_hand(self, encoded):
        linear = (PATCHES / 255) ** GAMMA
        expected = srgb_curve(linear @ DISPLAY_P3_D50.T @ np.linalg.inv(SRGB_D50).T)
        icc = matrix_profile(DISPLAY_P3_D50)
        for kind, options in [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]:
            decoded = decode(encoded(Image.fromarray(PATCHES), kind, icc_profile=icc, **options))
            assert np.abs(decoded - expected).max() < 2, kind
        assert np.abs(expected - PATCHES).max() > 20

    def test_display_p3_in_a_jpeg_of_several_profile_parts(self, encoded):
        icc = matrix_profile(DISPLAY_P3_D50)
        long = icc + b"\0" * 150_000
        long = struct.pack(">I", len(long)) + long[4:]
        image = Image.fromarray(np.repeat(np.repeat(PATCHES, 8, 0), 8, 1))
        plain = decode(encoded(image, "JPEG", quality=95))
        converted = decode(encoded(image, "JPEG", quality=95, icc_profile=long))
        linear = (plain / 255) ** GAMMA
        expected = srgb_curve(linear @ DISPLAY_P3_D50.T @ np.linalg.inv(SRGB_D50).T)
        assert np.abs(converted - expected).max() < 2
        data = encoded(image, "JPEG", quality=95, icc_profile=long)
        second = data.index(b"ICC_PROFILE\0\x02")
        lost = data[: second - 4] + data[second + struct.unpack_from(">H", data, second - 2)[0] - 2 :]
        np.testing.assert_array_equal(decode(lost), plain)

    def test_alpha_and_palette_keep_their_meaning_under_a_profile(self, encoded):
        icc = matrix_profile(DISPLAY_P3_D50)
        opaque = decode(encoded(Image.fromarray(PATCHES), "PNG", icc_profile=icc))
        image = Image.fromarray(PATCHES)
        palette = image.quantize(16, dither=Image.Dither.NONE)
        np.testing.assert_array_equal(palette.convert("RGB"), PATCHES)
        np.testing.assert_array_equal(decode(encoded(palette, "PNG", icc_profile=icc)), opaque)
        image.putalpha(51)
        laid = decode(encoded(image, "PNG", icc_profile=icc))
        assert np.abs(laid - (opaque / 5 + 255 * 4 / 5)).max() <= 0.5

    def test_linear_grey_by_hand(self, encoded):
        levels = np.arange(256, dtype=np.uint8)[None]
        icc = profile(b"GRAY", b"mntr", {b"kTRC": curve(1.0)})
        decoded = decode(encoded(Image.fromarray(levels), "PNG", icc_profile=icc))
        assert np.abs(decoded[0].mean(axis=1) - srgb_curve(levels[0] / 255)).max() < 2
        assert decoded[0, 128].tolist() == [188, 188, 188]

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk_profile_by_hand(self, encoded, kind):
        image = Image.new("CMYK", (32, 16), (255, 40, 0, 128))
        image.paste((0, 0, 0, 0), (16, 0, 32, 16))
        options = {"quality": 100} if kind == "JPEG" else {}
        decoded = decode(encoded(image, kind, icc_profile=black_only_profile(), **options))
        lightness = 100 * (1 - 128 / 255)
        expected = srgb_curve(((lightness + 16) / 116) ** 3)
        assert np.abs(decoded[4, 4] - expected).max() < 2.5
        assert decoded[4, 28].min() >= 254
        # Without the profile, cyan is cyan.
        assert decode(encoded(image, kind, **options))[4, 4, 0] < 5

    def test_srgb_itself_changes_no_pixel(self, encoded):
        picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(picture), "PNG", icc_profile=icc)), picture)

    def test_broken_and_foreign_profiles_are_ignored(self, encoded):
        plain = decode(encoded(Image.fromarray(PATCHES), "PNG"))
        good = matrix_profile(DISPLAY_P3_D50)
        rng = np.random.default_rng(1)
        shredded = bytes(good[:132]) + rng.bytes(len(good) - 132)
        grey = profile(b"GRAY", b"mntr", {b"kTRC": curve(1.0)})
        for icc in (b"junk", good[:100], shredded, grey, black_only_profile(), good.replace(b"acsp", b"zzzz")):
            data = encoded(Image.fromarray(PATCHES), "PNG", icc_profile=icc)
            for _ in range(2):
                np.testing.assert_array_equal(decode(data), plain)
        for icc in (b"junk", good):
            grey_picture = encoded(Image.fromarray(PATCHES[..., 0]), "PNG", icc_profile=icc)
            np.testing.assert_array_equal(decode(grey_picture)[..., 1], PATCHES[..., 0])

    def test_a_profile_that_inflates_without_end_is_ignored(self, make_png):
        bomb = b"icc\0\0" + zlib.compress(b"\0" * (MAX_PROFILE_BYTES + 2**20), 9)
        assert decode(make_png(1, 1, 8, 2, [b"abc"], [(b"iCCP", bomb)])).tobytes() == b"abc"


class TestSpaces:
    def test_adobe_jpeg_of_inverted_cmyk(self, encoded):
        # PIL writes the Adobe marker and inverted inks, as Photoshop does.
        data = encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=100)
        assert b"Adobe" in data
        assert np.abs(decode(data).astype(int) - [0, 255, 255]).max() <= 2

    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
    def test_uncompressed_ycbcr_tiff(self, encoded, compression):
        colors = np.random.default_rng(3).integers(0, 256, (6, 9, 3), dtype=np.uint8)
        image = Image.fromarray(colors).convert("YCbCr")
        np.testing.assert_array_equal(
            decode(encoded(image, "TIFF", compression=compression)), np.asarray(image.convert("RGB"))
        )

    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
    def test_cielab_tiff_by_hand(self, encoded, compression):
        # L* in 0..255, a* and b* offset by 128 in PIL's memory: white, black, a mid grey, and sRGB red.
        lab = [(255, 128, 128), (0, 128, 128), (136, 128, 128), (138, 209, 198)]
        image = Image.new("LAB", (4, 1))
        image.putdata(lab)
        decoded = decode(encoded(image, "TIFF", compression=compression))[0].astype(int)
        grey = srgb_curve(((136 / 255 * 100 + 16) / 116) ** 3)
        assert np.abs(decoded[:3] - np.array([[255], [0], [float(grey)]])).max() < 2
        assert np.abs(decoded[3] - [255, 0, 0]).max() < 8
