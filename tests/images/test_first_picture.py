"""Of animations and files of several pages the first picture, with what it leaves uncovered over white."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageSequence

from cutaway.errors import ImageError
from cutaway.images import decode

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.filterwarnings("ignore::ResourceWarning")]

RED, GREEN = [255, 0, 0], [0, 255, 0]
WHITE = [255, 255, 255]


@pytest.mark.parametrize(
    ("kind", "options"),
    [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("TIFF", {"big_tiff": True})],
)
def test_the_first_of_several(encoded, kind, options):
    first, second = Image.new("RGB", (5, 4), tuple(RED)), Image.new("RGB", (5, 4), tuple(GREEN))
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert len(list(ImageSequence.Iterator(image))) == 2
    assert np.unique(decode(data).reshape(-1, 3), axis=0).tolist() == [RED]


def _gif(screen, frames, *, table=bytes([*RED, *GREEN, 9, 9, 9, 8, 8, 8]), control=b""):
    """A GIF with one global table of four colours; frames are (left, top, PIL image of mode P)."""
    data = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x81, 0, 0) + table
    for left, top, image in frames:
        single = io.BytesIO()
        image.save(single, "GIF", optimize=False)
        raw = single.getvalue()
        start = raw.index(b",", 13 + 3 * 2 ** ((raw[10] & 7) + 1))
        assert not raw[start + 9] & 0x80
        data += control + b"," + struct.pack("<HHHHB", left, top, *image.size, raw[start + 9]) + raw[start + 10 : -1]
    return data + b";"


def _indices(rows):
    image = Image.fromarray(np.array(rows, dtype=np.uint8)).convert("L")
    palette = Image.new("P", image.size)
    palette.putdata(
        list(image.getdata()) if not hasattr(image, "get_flattened_data") else list(image.get_flattened_data())
    )
    palette.putpalette([1, 2, 3] * 256)
    return palette


CONTROL = b"!\xf9\x04\x01\0\0\x01\0"


class TestGif:
    def test_transparent_index_over_white(self):
        data = _gif((2, 1), [(0, 0, _indices([[0, 1]]))], control=CONTROL)
        assert decode(data).tolist() == [[RED, WHITE]]

    def test_without_a_control_block_the_index_is_a_color(self):
        assert decode(_gif((2, 1), [(0, 0, _indices([[0, 1]]))])).tolist() == [[RED, GREEN]]

    def test_what_the_frame_leaves_uncovered_is_white(self):
        data = _gif((3, 2), [(1, 1, _indices([[0, 1]]))])
        assert decode(data).tolist() == [[WHITE, WHITE, WHITE], [WHITE, RED, GREEN]]

    def test_a_frame_beyond_the_screen_enlarges_it(self):
        data = _gif((1, 1), [(1, 0, _indices([[0, 1]]))])
        assert decode(data).tolist() == [[WHITE, RED, GREEN]]

    def test_without_any_color_table_indices_are_levels(self):
        whole = _gif((2, 1), [(0, 0, _indices([[3, 1]]))])
        bare = whole[:10] + b"\0" + whole[11:13] + whole[25:]
        assert decode(bare).tolist() == [[[3] * 3, [1] * 3]]

    def test_interlaced(self, encoded):
        rng = np.random.default_rng(2)
        image = Image.fromarray(rng.integers(0, 256, (17, 9), dtype=np.uint8))
        for interlace in (0, 1):
            data = encoded(image, "GIF", interlace=interlace)
            np.testing.assert_array_equal(decode(data)[..., 0], np.asarray(image))

    def test_comments_and_loops_before_the_frame(self, encoded):
        image = Image.new("P", (4, 4))
        image.putpalette(RED + GREEN)
        data = encoded(image, "GIF", comment=b"hello" * 200, loop=0)
        assert decode(data)[0, 0].tolist() == RED

    def test_no_frame_at_all(self):
        with pytest.raises(ImageError, match="holds no picture"):
            decode(b"GIF89a" + struct.pack("<HHBBB", 2, 2, 0, 0, 0) + b";")


def test_webp_whose_first_frame_covers_a_part(encoded):
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (0, 0, 4, 8))
    other = Image.new("RGBA", (8, 8), (0, 255, 0, 255))
    data = encoded(picture, "WEBP", save_all=True, append_images=[other], lossless=True, duration=100)
    decoded = decode(data)
    assert decoded[0, 0].tolist() == RED
    assert decoded[0, 7].tolist() == WHITE


def test_multi_picture_jpeg_of_a_phone(encoded):
    first, second = (Image.new("RGB", (16, 16), color) for color in ((200, 30, 30), (30, 200, 30)))
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(data), decode(encoded(first, "JPEG")))


def test_tiled_tiff_with_edges_that_do_not_fill_their_tiles():
    tifffile = pytest.importorskip("tifffile")
    colors = np.random.default_rng(4).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    for photometric, picture in (("rgb", colors), ("minisblack", colors[..., 0])):
        for planar in ("contig", "separate") if photometric == "rgb" else ("contig",):
            stored = np.moveaxis(picture, 2, 0) if planar == "separate" else picture
            file = io.BytesIO()
            tifffile.imwrite(file, stored, photometric=photometric, planarconfig=planar, tile=(32, 16))
            expected = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
            np.testing.assert_array_equal(decode(file.getvalue()), expected)


def test_tiff_in_several_strips():
    tifffile = pytest.importorskip("tifffile")
    colors = np.random.default_rng(4).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    file = io.BytesIO()
    tifffile.imwrite(file, colors, photometric="rgb", rowsperstrip=7)
    np.testing.assert_array_equal(decode(file.getvalue()), colors)
