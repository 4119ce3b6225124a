"""Transparency over white, palettes, and every depth: pixels set by hand, answers worked out by hand."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from cutaway.errors import ImageError
from cutaway.images import decode

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.filterwarnings("ignore::ResourceWarning")]

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
WHITE = [255, 255, 255]
RED = [255, 0, 0]
# 100 at an opacity of 51 (a fifth) over white: 100 / 5 + 255 * 4 / 5 = 224.
FIFTH = [224, 224, 224]


def pixels(data):
    return decode(data)[0].tolist()


class TestAlpha:
    def test_rgba(self, make_png):
        row = bytes([255, 0, 0, 255, 100, 100, 100, 51, 9, 9, 9, 0])
        assert pixels(make_png(3, 1, 8, RGB_ALPHA, [row])) == [RED, FIFTH, WHITE]

    def test_grey_with_alpha(self, make_png):
        assert pixels(make_png(3, 1, 8, GREY_ALPHA, [bytes([7, 255, 100, 51, 9, 0])])) == [[7, 7, 7], FIFTH, WHITE]

    def test_16_bits_with_alpha(self, make_png):
        row = struct.pack(">12H", 65535, 0, 0, 65535, 25700, 25700, 25700, 13107, 9, 9, 9, 0)
        assert pixels(make_png(3, 1, 16, RGB_ALPHA, [row])) == [RED, FIFTH, WHITE]
        row = struct.pack(">4H", 25700, 13107, 40000, 0)
        assert pixels(make_png(2, 1, 16, GREY_ALPHA, [row])) == [FIFTH, WHITE]

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_palette_with_opacities(self, make_png, bits):
        packed = {1: b"\x40", 2: b"\x10", 4: b"\x01", 8: b"\x00\x01"}[bits]
        extra = [(b"PLTE", bytes([255, 0, 0, 100, 100, 100])), (b"tRNS", bytes([255, 51]))]
        assert pixels(make_png(2, 1, bits, PALETTE, [packed], extra)) == [RED, FIFTH]

    def test_colors_without_an_opacity_are_opaque(self, make_png):
        extra = [(b"PLTE", bytes([9, 9, 9, 255, 0, 0])), (b"tRNS", bytes([0]))]
        assert pixels(make_png(2, 1, 8, PALETTE, [b"\x00\x01"], extra)) == [WHITE, RED]

    def test_transparent_color_in_rgb(self, make_png):
        row = bytes([1, 2, 3, 1, 2, 4])
        assert pixels(make_png(2, 1, 8, RGB, [row], [(b"tRNS", struct.pack(">3H", 1, 2, 3))])) == [WHITE, [1, 2, 4]]

    def test_transparent_color_in_16_bit_rgb(self, make_png):
        row = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x1334, 0x5678, 0x9ABC)
        key = struct.pack(">3H", 0x1234, 0x5678, 0x9ABC)
        assert pixels(make_png(2, 1, 16, RGB, [row], [(b"tRNS", key)])) == [WHITE, [0x13, 0x56, 0x9A]]

    @pytest.mark.parametrize(("bits", "row"), [(1, b"\x40"), (2, b"\x70"), (4, b"\x3c"), (8, b"\x03\x20")])
    def test_transparent_level_in_grey(self, make_png, bits, row):
        values = [int(bit) for bit in (f"{int.from_bytes(row):0{8 * len(row)}b}")]
        second = {1: 255, 2: 255, 4: 12 * 17, 8: 0x20}[bits]
        first = {1: 0, 2: 1, 4: 3, 8: 3}[bits]
        assert int("".join(map(str, values[:bits])), 2) == first
        decoded = pixels(make_png(2, 1, bits, GREY, [row], [(b"tRNS", struct.pack(">H", first))]))
        assert decoded == [WHITE, [second] * 3]

    def test_transparent_level_in_16_bit_grey_is_compared_exactly(self, make_png):
        row = struct.pack(">2H", 0x1234, 0x1235)
        assert pixels(make_png(2, 1, 16, GREY, [row], [(b"tRNS", b"\x12\x34")])) == [WHITE, [0x12] * 3]

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
    def test_tiff(self, encoded, mode, compression):
        grey = Image.new("RGBA", (2, 1), (100, 100, 100, 51))
        grey.putpixel((1, 0), (7, 7, 7, 255))
        assert pixels(encoded(grey.convert(mode), "TIFF", compression=compression)) == [FIFTH, [7, 7, 7]]

    def test_premultiplied_tiff(self, encoded):
        # 20 stored at an opacity of 51 is 100, unlike where colours are stored whole.
        image = Image.new("RGBA", (1, 1), (20, 20, 20, 51))
        whole = encoded(image, "TIFF")
        premultiplied = whole.replace(struct.pack("<HHIHH", 338, 3, 1, 2, 0), struct.pack("<HHIHH", 338, 3, 1, 1, 0))
        assert pixels(whole) == [[208, 208, 208]]
        assert pixels(premultiplied) == [FIFTH]

    def test_webp(self, encoded):
        image = Image.new("RGBA", (2, 2), (100, 100, 100, 51))
        image.putpixel((1, 0), (255, 0, 0, 255))
        image.putpixel((0, 1), (0, 0, 0, 0))
        decoded = decode(encoded(image, "WEBP", lossless=True)).tolist()
        assert decoded == [[FIFTH, RED], [WHITE, FIFTH]]

    def test_bmp(self):
        header = struct.pack("<IIIHHIIIIII", 108, 2, 1, 1, 32, 3, 8, 0, 0, 0, 0)
        header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"\0" * 52
        data = b"BM" + struct.pack("<IHHI", 14 + 108 + 8, 0, 0, 14 + 108) + header
        assert pixels(data + bytes([0, 0, 255, 255, 100, 100, 100, 51])) == [RED, FIFTH]

    def test_every_level_and_opacity_is_rounded_to_the_nearest(self, encoded):
        level, alpha = np.meshgrid(np.arange(256), np.arange(256))
        stored = np.stack([level, 255 - level, level, alpha], axis=-1).astype(np.uint8)
        exact = (stored[:, :, :3] * (alpha / 255)[..., None]) + 255 * (1 - alpha / 255)[..., None]
        decoded = decode(encoded(Image.fromarray(stored), "PNG"))
        assert np.abs(decoded - exact).max() <= 0.5 + 1e-9

    def test_large_pictures_are_laid_over_white_in_every_block(self, encoded):
        stored = np.full((1500, 900, 4), 100, dtype=np.uint8)
        stored[..., 3] = 51
        assert (decode(encoded(Image.fromarray(stored), "PNG", compress_level=1)) == 224).all()


class TestDepth:
    def test_one_bit(self, make_png, encoded):
        assert pixels(make_png(3, 1, 1, GREY, [b"\x40"])) == [[0] * 3, WHITE, [0] * 3]
        image = Image.new("1", (3, 1))
        image.putpixel((1, 0), 1)
        for kind, options in [("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "packbits"}), ("GIF", {})]:
            assert pixels(encoded(image, kind, **options)) == [[0] * 3, WHITE, [0] * 3], kind

    def test_one_bit_where_white_is_zero(self, encoded):
        image = Image.new("1", (3, 1))
        image.putpixel((1, 0), 1)
        data = encoded(image, "TIFF")
        inverted = data.replace(struct.pack("<HHIHH", 262, 3, 1, 1, 0), struct.pack("<HHIHH", 262, 3, 1, 0, 0))
        assert inverted != data
        assert pixels(inverted) == [WHITE, [0] * 3, WHITE]

    @pytest.mark.parametrize(
        ("bits", "row", "levels"), [(2, b"\x1b", [0, 85, 170, 255]), (4, b"\x05\xf0", [0, 85, 255, 0])]
    )
    def test_two_and_four_bits_are_stretched(self, make_png, bits, row, levels):
        assert pixels(make_png(4, 1, bits, GREY, [row])) == [[level] * 3 for level in levels]

    def test_palette_indices_beyond_the_palette_are_black(self, make_png):
        assert pixels(make_png(2, 1, 8, PALETTE, [b"\x00\x05"], [(b"PLTE", bytes(RED))])) == [RED, [0, 0, 0]]

    def test_palette_is_required(self, make_png):
        with pytest.raises(ImageError, match="no palette"):
            decode(make_png(2, 1, 8, PALETTE, [b"\x00\x05"]))

    def test_16_bits_are_scaled_and_not_clipped(self, make_png, encoded):
        levels = np.array([[0, 255, 256, 32768, 40000, 65535]], dtype=np.uint16)
        eight = [[level >> 8] * 3 for level in levels[0].tolist()]
        assert pixels(make_png(6, 1, 16, GREY, [levels.astype(">u2").tobytes()])) == eight
        colors = np.repeat(levels[..., None], 3, axis=2).astype(">u2").tobytes()
        assert pixels(make_png(6, 1, 16, RGB, [colors])) == eight
        for compression in ("raw", "tiff_lzw"):
            assert pixels(encoded(Image.fromarray(levels), "TIFF", compression=compression)) == eight

    def test_eight_bits_stored_as_sixteen_come_back_exactly(self, make_png):
        levels = np.arange(256, dtype=np.uint16)
        row = (levels * 257).astype(">u2").tobytes()
        assert pixels(make_png(256, 1, 16, GREY, [row])) == [[level] * 3 for level in range(256)]

    @pytest.mark.parametrize(
        ("order", "bits", "photometric"),
        [("<", 16, 1), (">", 16, 1), ("<", 16, 0), (">", 16, 0), ("<", 12, 1), ("<", 12, 0)],
    )
    def test_tiff_of_more_than_eight_bits_in_both_byte_orders(self, order, bits, photometric):
        levels = [0x123, 0xFED]
        body = struct.pack(f"{order}2H", *levels) if bits == 16 else bytes([0x12, 0x3F, 0xED])
        top = 2**bits - 1 if photometric == 0 else 0
        expected = [(level ^ top) >> (bits - 8) for level in levels]
        assert pixels(_tiff(order, bits, photometric, body)) == [[level] * 3 for level in expected]

    def test_16_bit_colors_in_tiff(self):
        tifffile = pytest.importorskip("tifffile")
        levels = np.random.default_rng(0).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
        for order in "<>":
            file = io.BytesIO()
            tifffile.imwrite(file, levels, photometric="rgb", byteorder=order)
            np.testing.assert_array_equal(decode(file.getvalue()), levels >> 8)

    @pytest.mark.parametrize("mode", ["I", "F"])
    def test_samples_of_unknown_white_are_refused_in_words(self, encoded, mode):
        with pytest.raises(ImageError, match="signed, floating-point or wider than 16 bits"):
            decode(encoded(Image.new(mode, (3, 3)), "TIFF"))

    def test_bmp_of_every_depth(self, encoded):
        palette = Image.new("P", (3, 1))
        palette.putpalette([255, 0, 0, 0, 255, 0, 1, 2, 3])
        palette.putdata([2, 0, 1])
        assert pixels(encoded(palette, "BMP")) == [[1, 2, 3], RED, [0, 255, 0]]
        # 16 bits: 5 each, blue lowest.
        header = struct.pack("<IIIHHIIIIII", 40, 2, 1, 1, 16, 0, 4, 0, 0, 0, 0)
        data = b"BM" + struct.pack("<IHHI", 58, 0, 0, 54) + header + struct.pack("<HH", 31 << 10, 31)
        assert pixels(data) == [RED, [0, 0, 255]]

    def test_bmp_stored_from_the_top(self, encoded):
        header = struct.pack("<IiiHHIIIIII", 40, 1, -2, 1, 24, 0, 8, 0, 0, 0, 0)
        data = b"BM" + struct.pack("<IHHI", 62, 0, 0, 54) + header + bytes([0, 0, 255, 0, 255, 0, 0, 0])
        assert decode(data).tolist() == [[RED], [[0, 0, 255]]]

    def test_run_length_bmp_is_refused_in_words(self):
        header = struct.pack("<IIIHHIIIIII", 40, 100_000_000, 1, 1, 8, 1, 8, 0, 0, 0, 0)
        data = b"BM" + struct.pack("<IHHI", 62, 0, 0, 54) + header + b"\0\2\xff\xff" * 2
        with pytest.raises(ImageError, match="run-length compressed BMP is not supported"):
            decode(data)


def _tiff(order, bits, photometric, body):
    values = {256: 2, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(body)}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in values.items())
    body = body.ljust(8, b"\0")
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body))
    return header + body + struct.pack(f"{order}H", len(values)) + entries + b"\0" * 4
