"""Every format gives PIL's pixels, upright; limits hold; nothing is left open and no switch of PIL's matters."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from cutaway.errors import ImageError
from cutaway.images import EXTENSIONS, Limits, decode, encode_png
from cutaway.images import tiff as tiff_module

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.filterwarnings("ignore::ResourceWarning")]

RNG = np.random.default_rng(5)
COLORS = RNG.integers(0, 256, (13, 21, 3), dtype=np.uint8)
# Colours that survive chroma subsampling: an upright picture is then easy to compare across lossy formats.
SMOOTH = np.asarray(Image.fromarray(RNG.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize((40, 24)))

ENCODINGS = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"subsampling": 0, "quality": 100}),
    ("PNG", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("BMP", {}),
    ("GIF", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", {"compression": "packbits"}),
    ("TIFF", {"compression": "jpeg"}),
    ("TIFF", {"big_tiff": True}),
]


def _modes(kind: str, options: dict[str, object]) -> list[str]:
    if kind == "JPEG" or options.get("compression") == "jpeg":
        return ["RGB", "L", "CMYK"]
    if kind in ("PNG", "BMP", "GIF", "WEBP") or "big_tiff" in options:
        return ["RGB", "L", "1", "P"]
    return ["RGB", "L", "1", "P", "CMYK"]


@pytest.mark.parametrize(
    ("kind", "options", "mode"), [(*encoding, mode) for encoding in ENCODINGS for mode in _modes(*encoding)]
)
def test_opaque_pictures_have_the_pixels_that_pil_converts_to(encoded, kind, options, mode):
    data = encoded(Image.fromarray(COLORS).convert(mode), kind, **options)
    with Image.open(io.BytesIO(data)) as reference:
        expected = np.asarray(reference.convert("RGB"))
    decoded = decode(data)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_as_pil_applies_it(encoded, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a maker's name that is too long to lie inside the directory entry"
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(COLORS), kind, exif=exif.tobytes(), **options)
    with Image.open(io.BytesIO(data)) as reference:
        expected = np.asarray(ImageOps.exif_transpose(reference).convert("RGB"))
    np.testing.assert_array_equal(decode(data), expected)
    if orientation >= 5:
        assert decode(data).shape == (21, 13, 3)


def test_each_orientation_by_hand(encoded):
    # One bright corner: where EXIF says the stored top-left corner belongs.
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    picture = np.zeros((2, 3, 3), dtype=np.uint8)
    picture[0, 0] = 255
    for orientation, place in corner.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        decoded = decode(encoded(Image.fromarray(picture), "PNG", exif=exif))
        assert decoded.shape[:2] == ((2, 3) if orientation < 5 else (3, 2))
        assert decoded[place].tolist() == [255, 255, 255]
        assert decoded.sum() == 3 * 255


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II",
        b"nonsense",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0",
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x01\0\0\0\x06\0\0\0",
    ],
)
def test_broken_exif_leaves_the_picture_as_it_is(make_png, exif):
    plain = make_png(2, 1, 8, 2, [b"abcdef"])
    np.testing.assert_array_equal(decode(make_png(2, 1, 8, 2, [b"abcdef"], [(b"eXIf", exif)])), decode(plain))


def test_big_endian_exif_and_a_thumbnail_of_another_orientation(make_png):
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 3, 0)
    thumbnail = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"MM\0*\0\0\0\x08" + b"\0\x01" + entry + struct.pack(">I", 26) + b"\0\x01" + thumbnail + b"\0\0\0\0"
    decoded = decode(make_png(2, 1, 8, 2, [b"abcdef"], [(b"eXIf", exif)]))
    assert decoded.tobytes() == b"defabc"


def test_the_name_says_nothing_about_the_format(encoded, tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded(Image.fromarray(COLORS), "PNG"))
    np.testing.assert_array_equal(decode(path), COLORS)


@pytest.mark.parametrize("kind", ["ICO", "PPM", "TGA", "JPEG2000", "PCX", "ICNS", "EPS", "DDS", "AVIF"])
def test_formats_outside_the_list_are_refused(encoded, kind):
    data = encoded(Image.fromarray(COLORS).resize((32, 32)), kind)
    with pytest.raises(ImageError, match="is no JPEG, PNG, WebP, BMP, TIFF or GIF"):
        decode(data)


@pytest.mark.parametrize("data", [b"", b"\0", b"hello", b"<svg/>", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0"])
def test_what_is_no_picture_is_refused_in_a_sentence(data):
    with pytest.raises(ImageError, match=r"The picture cannot be decoded: .*\.") as caught:
        decode(data)
    assert caught.value.hint


@pytest.mark.parametrize(("kind", "options"), ENCODINGS)
def test_a_file_cut_short_anywhere_is_refused_or_whole(encoded, kind, options):
    data = encoded(Image.fromarray(SMOOTH), kind, **options)
    whole = decode(data)
    cuts = {*range(0, len(data), max(1, len(data) // 60)), *range(max(0, len(data) - 12), len(data))}
    refused = 0
    for cut in cuts:
        try:
            decoded = decode(data[:cut])
        except ImageError:
            refused += 1
        else:
            np.testing.assert_array_equal(decoded, whole)
    assert refused >= len(cuts) - 12


def test_a_photo_with_a_video_or_second_picture_behind_it_is_the_photo(encoded):
    data = encoded(Image.fromarray(SMOOTH), "JPEG")
    other = encoded(Image.fromarray(255 - SMOOTH), "JPEG")
    np.testing.assert_array_equal(decode(data + other + b"ftypmp42"), decode(data))


class TestLimits:
    @pytest.mark.parametrize(("kind", "options"), ENCODINGS)
    def test_pixels_are_counted_before_they_are_decoded(self, encoded, kind, options):
        data = encoded(Image.fromarray(COLORS), kind, **options)
        assert decode(data, limits=Limits(max_pixels=13 * 21)).shape == (13, 21, 3)
        with pytest.raises(ImageError, match="21 x 13 pixels, more than the 272"):
            decode(data, limits=Limits(max_pixels=13 * 21 - 1))

    def test_headers_that_promise_gigapixels_cost_no_memory(self, make_png, encoded):
        jpeg = bytearray(encoded(Image.new("RGB", (8, 8)), "JPEG"))
        frame = jpeg.index(b"\xff\xc0")
        jpeg[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
        gif = bytearray(encoded(Image.new("L", (8, 8)), "GIF"))
        gif[6:10] = b"\xff\xff\xff\xff"
        bmp = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
        bmp[18:26] = struct.pack("<II", 60000, 60000)
        tiff = encoded(Image.new("RGB", (8, 8)), "TIFF").replace(
            struct.pack("<HHII", 256, 4, 1, 8), struct.pack("<HHII", 256, 4, 1, 2**31)
        )
        webp = b"RIFF" + struct.pack("<I", 4 + 8 + 10) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4 + b"\xff" * 6
        bombs = [make_png(2**31 - 1, 2**31 - 1, 8, 2, [b""]), bytes(jpeg), bytes(gif), bytes(bmp), tiff, webp]
        for bomb in bombs:
            tracemalloc.start()
            with pytest.raises(ImageError, match="pixels, more than the 100,000,000 that are allowed"):
                decode(bomb)
            assert tracemalloc.get_traced_memory()[1] < 2**21
            tracemalloc.stop()

    def test_a_frame_larger_than_its_screen_counts(self, encoded):
        gif = bytearray(encoded(Image.new("L", (8, 8)), "GIF"))
        frame = gif.index(b",\0\0\0\0\x08\0\x08\0")
        gif[frame + 1 : frame + 5] = b"\xf0\xff\xf0\xff"
        with pytest.raises(ImageError, match="65528 x 65528 pixels"):
            decode(bytes(gif))

    def test_bytes_are_counted_and_no_more_are_read(self, encoded, tmp_path, monkeypatch):
        data = encoded(Image.fromarray(COLORS), "BMP")
        path = tmp_path / "large.bmp"
        path.write_bytes(data)
        for source in (data, path):
            assert decode(source, limits=Limits(max_bytes=len(data))).shape == (13, 21, 3)
            with pytest.raises(ImageError, match=f"more than the {len(data) - 1:,} bytes"):
                decode(source, limits=Limits(max_bytes=len(data) - 1))
        sparse = tmp_path / "sparse.png"
        with sparse.open("wb") as file:
            file.truncate(2**40)
        with pytest.raises(ImageError, match="more than the 1,000 bytes"):
            decode(sparse, limits=Limits(max_bytes=1000))


class TestFiles:
    def test_a_missing_file_a_folder_and_a_pipe_are_refused_by_name(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.png")
        for name, reason in (("none.png", "No such file"), (".", "is not a file"), ("pipe.png", "is not a file")):
            with pytest.raises(ImageError, match=reason) as caught:
                decode(tmp_path / name)
            assert str(tmp_path / name) in caught.value.message

    def test_a_damaged_file_is_named(self, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
        with pytest.raises(ImageError, match=r"^'broken.png' cannot be decoded"):
            decode(tmp_path / "broken.png")

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files through /proc")
    def test_no_file_stays_open(self, encoded, tmp_path):
        good, bad = tmp_path / "good.tif", tmp_path / "bad.tif"
        good.write_bytes(encoded(Image.fromarray(COLORS), "TIFF", compression="tiff_lzw"))
        bad.write_bytes(good.read_bytes()[:-20])
        before = len(list(Path("/proc/self/fd").iterdir()))
        kept = [decode(good) for _ in range(5)]
        for _ in range(5):
            with pytest.raises(ImageError):
                decode(bad)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        assert len(kept) == 5


@pytest.mark.parametrize(("kind", "options"), ENCODINGS)
def test_pils_global_switches_do_not_matter(encoded, monkeypatch, kind, options):
    data = encoded(Image.fromarray(SMOOTH), kind, **options)
    damaged = [data[: len(data) // 2], data[: len(data) * 9 // 10]]
    middle = len(data) * 2 // 3
    damaged.append(data[:middle] + bytes(byte ^ 0x55 for byte in data[middle : middle + 8]) + data[middle + 8 :])

    def outcomes():
        for candidate in (data, *damaged):
            try:
                yield decode(candidate).tobytes()
            except ImageError as error:
                yield str(error)

    expected = list(outcomes())
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    assert list(outcomes()) == expected
    assert Image.MAX_IMAGE_PIXELS == 5


def test_threads_do_not_disturb_each_other(encoded):
    files = [
        encoded(Image.fromarray(COLORS).resize((90 + n, 70)), *pair)
        for n, pair in enumerate([("JPEG",), ("PNG",), ("WEBP",), ("BMP",), ("GIF",), ("TIFF",)])
    ] + [encoded(Image.fromarray(COLORS), "TIFF", compression="tiff_lzw")]
    expected = [decode(data).tobytes() for data in files]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            assert [pixels.tobytes() for pixels in pool.map(decode, files)] == expected


def test_the_extensions_that_a_folder_is_searched_for():
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"} == EXTENSIONS


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip(channels):
    image = COLORS[:, :, :channels]
    np.testing.assert_array_equal(
        decode(encode_png(image)), np.broadcast_to(image, COLORS.shape) if channels == 1 else image
    )


def test_row_sizes_that_guard_uncompressed_tiff():
    sizes = {
        "1": 1,
        "1;IR": 1,
        "L;2IR": 2,
        "P;4": 4,
        "L": 8,
        "I;12": 12,
        "I;16B": 16,
        "LA": 16,
        "RGB;16L": 48,
        "RGBXX": 40,
    }
    assert {mode: tiff_module._bits_per_pixel(mode) for mode in sizes} == sizes


def test_interlaced_png(make_png):
    colors = RNG.integers(0, 256, (11, 13, 3), dtype=np.uint8)
    # Adam7: first row, first column, row step, column step of each pass.
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [row.tobytes() for top, left, down, right in passes for row in colors[top::down, left::right]]
    data = bytearray(make_png(13, 11, 8, 2, rows))
    data[28] = 1
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    np.testing.assert_array_equal(decode(bytes(data)), colors)


def test_jpeg_stored_as_rgb_and_with_restart_markers(encoded):
    for options in ({"keep_rgb": True}, {"restart_marker_blocks": 1}, {"restart_marker_rows": 1, "progressive": True}):
        data = encoded(Image.fromarray(SMOOTH), "JPEG", **options)
        with Image.open(io.BytesIO(data)) as reference:
            np.testing.assert_array_equal(decode(data), np.asarray(reference))
        assert np.abs(decode(data).astype(int) - SMOOTH).mean() < 12
