from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cutaway.preprocessing.spec import Preprocessing, imagenet
from cutaway.preprocessing.views import kept, view

STRETCH = Preprocessing(size=(28, 28), mean=(0.0,) * 3, std=(1.0,) * 3)


def test_a_stretched_picture_is_seen_whole() -> None:
    assert kept(300, 200, STRETCH) == (0, 0, 200, 300)
    small = np.random.default_rng(0).integers(0, 256, (28, 20, 3), dtype=np.uint8)
    assert view(small, STRETCH) is small


def test_crop_by_hand() -> None:
    # 512 x 1024: the shorter side becomes 256, so everything is halved; of 512 columns the middle 224 are kept.
    assert kept(512, 1024, imagenet()) == (288, 32, 736, 480)
    assert kept(1024, 512, imagenet()) == (32, 288, 480, 736)


PAD = Preprocessing(size=(28, 28), resize="pad", fill=7, mean=(0.0,) * 3, std=(1.0,) * 3)


def test_padding_by_hand() -> None:
    # 60 x 30 becomes 28 x 14, with 7 columns of grey on each side: 15 in the picture's own pixels.
    assert kept(60, 30, PAD) == (-15, 0, 45, 60)
    seen = view(np.full((60, 30, 3), 200, np.uint8), PAD)
    assert seen.shape == (60, 60, 3)
    assert seen[30, :, 0].tolist() == [7] * 15 + [200] * 30 + [7] * 15
    assert (seen[:, 20] == 200).all()


@pytest.mark.parametrize(("height", "width"), [(500, 333), (333, 500), (300, 299), (256, 256), (900, 301)])
def test_padded_view_shows_what_the_network_saw(height: int, width: int) -> None:
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = np.stack([rows * 255 // height, columns * 255 // width, 0 * rows + 128], 2).astype(np.uint8)
    spec = PAD.model_copy(update={"size": (224, 160)})

    seen = spec.picture(smooth)

    shown = view(smooth, spec)
    assert max(shown.shape) <= max(640, height)
    again = np.asarray(Image.fromarray(shown).resize((160, 224), Image.Resampling.BILINEAR))
    # An edge between picture and grey may lie a fraction of a pixel elsewhere.
    apart = np.abs(again.astype(int) - seen.astype(int)).max(2)
    assert np.median(apart) <= 1
    assert (apart > 4).mean() <= 0.03


def test_large_view_is_made_smaller_with_its_aspect_ratio() -> None:
    assert view(np.zeros((3000, 1500, 3), np.uint8), STRETCH).shape == (640, 320, 3)
    assert view(np.zeros((3000, 1500, 3), np.uint8), imagenet()).shape == (640, 640, 3)


@pytest.mark.parametrize(("height", "width"), [(500, 333), (333, 500), (226, 225), (256, 256), (900, 301)])
def test_view_shows_what_the_network_saw(height: int, width: int) -> None:
    rows, columns = np.mgrid[0:height, 0:width]
    smooth = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256 // 8], 2).astype(np.uint8)

    seen = imagenet().picture(smooth)

    again = np.asarray(Image.fromarray(view(smooth, imagenet())).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(again[..., :2].astype(int) - seen[..., :2]).max() <= 3


def test_extreme_shapes_stay_inside_the_picture() -> None:
    for height, width in [(1, 1), (1, 5000), (5000, 1), (3, 2)]:
        left, top, right, bottom = kept(height, width, imagenet())
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert min(view(np.zeros((height, width, 3), np.uint8), imagenet()).shape) >= 1
        assert min(view(np.zeros((height, width, 3), np.uint8), PAD).shape) >= 1
