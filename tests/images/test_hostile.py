"""Bytes from strangers: whatever they are, `decode` returns pixels or raises ImageError, soon and in little memory."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cutaway.errors import ImageError
from cutaway.images import Limits, decode
from cutaway.images.jpeg import MAX_SCANS

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.filterwarnings("ignore::ResourceWarning")]

SMALL = Limits(max_pixels=1_000_000)
SIGNATURES = [
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"RIFF\x30\0\0\0WEBPVP8 ",
    b"RIFF\x30\0\0\0WEBPVP8X",
    b"BM",
    b"",
]


def outcome(data):
    """The pixels, or None where the picture is refused; anything else that is raised fails the test."""
    try:
        decoded = decode(data, limits=SMALL)
    except ImageError as error:
        return None if error.message and error.hint else pytest.fail("an error without a sentence or a hint")
    assert decoded.dtype == np.uint8
    assert decoded.ndim == 3
    assert decoded.shape[2] == 3
    assert 0 < decoded.shape[0] * decoded.shape[1] <= SMALL.max_pixels
    return decoded


@given(st.sampled_from(SIGNATURES), st.binary(max_size=200))
@settings(max_examples=600, deadline=None)
def test_noise_behind_a_signature(signature, rest):
    outcome(signature + rest)


def _seeds(encoded):
    rng = np.random.default_rng(0)
    colors = Image.fromarray(rng.integers(0, 256, (19, 33, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    grey16 = Image.fromarray(rng.integers(0, 65536, (19, 33), dtype=np.uint16))
    icc = {"icc_profile": b"\0" * 200}
    seeds = [
        encoded(colors, "JPEG", exif=exif, **icc),
        encoded(colors, "JPEG", progressive=True),
        encoded(colors.convert("CMYK"), "JPEG"),
        encoded(colors, "PNG", exif=exif, **icc),
        encoded(colors.convert("P"), "PNG", transparency=3),
        encoded(colors.convert("1"), "PNG"),
        encoded(grey16, "PNG"),
        encoded(colors.convert("RGBA"), "PNG", save_all=True, append_images=[colors]),
        encoded(colors, "WEBP", exif=exif),
        encoded(colors.convert("RGBA"), "WEBP", lossless=True),
        encoded(colors, "WEBP", save_all=True, append_images=[colors.rotate(90)]),
        encoded(colors, "BMP"),
        encoded(colors.convert("P"), "BMP"),
        encoded(colors, "GIF", save_all=True, append_images=[colors.rotate(90)]),
        encoded(colors.convert("L"), "GIF", interlace=1),
        encoded(colors, "TIFF", **icc),
        encoded(colors, "TIFF", big_tiff=True),
        encoded(grey16, "TIFF"),
        encoded(colors.convert("1"), "TIFF", compression="tiff_lzw"),
        encoded(colors.convert("P"), "TIFF", compression="packbits"),
    ]
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        seeds.append(encoded(colors, "TIFF", compression=compression))
    return seeds


def _mutated(seed: bytes, rng: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(rng.randint(1, 5)):
        # Headers stand at the start, in TIFF also at the end.
        place = rng.choice([rng.randrange(min(100, len(data))), rng.randrange(len(data)), -rng.randrange(1, 200)])
        place = max(-len(data), min(place, len(data) - 1)) % len(data)
        kind = rng.randrange(5)
        if kind == 0:
            data[place] = rng.randrange(256)
        elif kind == 1:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 2 and len(data) > 60:
            del data[place : place + rng.randint(1, 40)]
        elif kind == 3:
            data[place:place] = rng.randbytes(rng.randint(1, 8))
        else:
            data[place : place + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\1\0"])
    return bytes(data)


def test_mutated_pictures_of_every_format(encoded):
    rng = random.Random(20)
    refused = accepted = 0
    slowest = 0.0
    for seed in _seeds(encoded):
        assert outcome(seed) is not None
        for _ in range(120):
            start = time.perf_counter()
            data = _mutated(seed, rng)
            decoded = outcome(data)
            slowest = max(slowest, time.perf_counter() - start)
            if decoded is not None:
                # Memory that a codec never wrote to would differ.
                np.testing.assert_array_equal(outcome(data), decoded)
            refused += decoded is None
            accepted += decoded is not None
    assert refused > 200
    assert accepted > 200
    assert slowest < 10


class TestBombs:
    def test_text_that_inflates_is_never_inflated(self, make_png):
        bomb = b"key\0\0" + zlib.compress(b"\0" * 2**26, 9)
        extra = [(b"zTXt", bomb)] * 20 + [(b"iTXt", b"key\0\1\0\0\0" + bomb[5:])] * 20
        data = make_png(1, 1, 8, 2, [b"abc"], extra)
        tracemalloc.start()
        assert decode(data).tobytes() == b"abc"
        assert tracemalloc.get_traced_memory()[1] < 2**23
        tracemalloc.stop()

    def test_pixels_that_inflate_beyond_the_picture_are_not_inflated(self, make_png, png_chunk):
        plain = make_png(1, 1, 8, 2, [b"abc"])
        start = plain.index(b"IDAT") - 4
        bomb = zlib.compress(b"\0abc" + b"\0" * 2**28, 9)
        data = plain[:start] + png_chunk(b"IDAT", bomb) + png_chunk(b"IEND", b"")
        assert outcome(data) is None or decode(data).tobytes() == b"abc"

    def test_a_progressive_jpeg_of_endless_scans_is_refused(self, encoded):
        data = encoded(Image.new("L", (64, 64)), "JPEG", progressive=True)
        last = data.rindex(b"\xff\xda")
        scan = data[last:-2]
        with pytest.raises(ImageError, match=f"more than {MAX_SCANS} scans"):
            decode(data[:-2] + scan * MAX_SCANS + b"\xff\xd9")

    def test_a_tiff_of_tags_that_all_point_at_the_same_bytes_costs_no_memory(self, encoded):
        data = encoded(Image.new("RGB", (64, 64), (1, 2, 3)), "TIFF") + b"\0" * 2**22
        start = struct.unpack_from("<I", data, 4)[0]
        count = struct.unpack_from("<H", data, start)[0]
        entries = data[start + 2 : start + 2 + 12 * count]
        fillers = b"".join(struct.pack("<HHII", tag, 7, 2**22, 0) for tag in range(40000, 60000))
        directory = struct.pack("<H", count + 20000) + entries + fillers + b"\0" * 4
        bomb = data[:4] + struct.pack("<I", len(data)) + data[8:] + directory
        tracemalloc.start()
        assert decode(bomb)[0, 0].tolist() == [1, 2, 3]
        assert tracemalloc.get_traced_memory()[1] < 2**26
        tracemalloc.stop()

    def test_a_tiff_of_a_giant_tile_is_refused(self):
        tifffile = pytest.importorskip("tifffile")
        import io

        file = io.BytesIO()
        tifffile.imwrite(file, np.zeros((16, 16), np.uint8), tile=(16, 16), photometric="minisblack")
        data = file.getvalue()
        for tag in (322, 323):
            entry = data.index(struct.pack("<HHI", tag, 4, 1)) if struct.pack("<HHI", tag, 4, 1) in data else -1
            entry = data.index(struct.pack("<HHI", tag, 3, 1)) if entry < 0 else entry
            data = data[:entry] + struct.pack("<HHII", tag, 4, 1, 2**15) + data[entry + 12 :]
        with pytest.raises(ImageError, match="its tiles have 32768 x 32768 pixels"):
            decode(data)

    def test_a_tiff_whose_strips_lie_beyond_its_end_is_truncated(self, encoded):
        data = encoded(Image.new("RGB", (8, 8)), "TIFF")
        offset = struct.unpack_from("<I", data, data.index(struct.pack("<HHI", 273, 4, 1)) + 8)[0]
        moved = data.replace(struct.pack("<HHII", 273, 4, 1, offset), struct.pack("<HHII", 273, 4, 1, offset + 1))
        assert moved != data
        with pytest.raises(ImageError, match="truncated"):
            decode(moved)


class TestDamage:
    def test_a_wrong_checksum_in_a_chunk_that_matters(self, make_png):
        data = bytearray(make_png(2, 1, 8, 2, [b"abcdef"]))
        data[data.index(b"IDAT") + 6] ^= 1
        with pytest.raises(ImageError, match="checksum of its IDAT chunk"):
            decode(bytes(data))

    def test_a_wrong_checksum_in_a_comment_does_not_matter(self, make_png):
        data = bytearray(make_png(2, 1, 8, 2, [b"abcdef"], [(b"tEXt", b"hello")]))
        data[data.index(b"hello")] ^= 1
        assert decode(bytes(data)).tobytes() == b"abcdef"

    @pytest.mark.parametrize(
        ("place", "value"),
        [(24, 3), (25, 7), (26, 1), (27, 1), (28, 2)],
        ids=["bits", "colour", "zip", "filter", "interlace"],
    )
    def test_headers_that_png_does_not_know(self, make_png, place, value):
        data = bytearray(make_png(2, 1, 8, 2, [b"abcdef"]))
        data[place] = value
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        with pytest.raises(ImageError, match="its header has colour type"):
            decode(bytes(data))

    def test_a_lossless_jpeg_is_refused_in_words(self, encoded):
        data = encoded(Image.new("L", (8, 8)), "JPEG").replace(b"\xff\xc0", b"\xff\xc3")
        with pytest.raises(ImageError, match="lossless or hierarchical"):
            decode(data)

    @pytest.mark.parametrize("compression", ["group3", "group4"])
    def test_fax_compression_is_refused_because_libtiff_leaves_foreign_memory_in_damaged_pictures(
        self, encoded, compression
    ):
        with pytest.raises(ImageError, match="fax compression is not supported"):
            decode(encoded(Image.new("1", (8, 8)), "TIFF", compression=compression))

    @pytest.mark.parametrize("size", [(0, 5), (5, 0)])
    def test_empty_pictures_are_refused(self, make_png, size):
        with pytest.raises(ImageError, match="promises"):
            decode(make_png(*size, 8, 2, []))
