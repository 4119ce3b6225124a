"""Statistics and decoding into memory."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cutaway import datasets
from cutaway.datasets.split import Split
from cutaway.datasets.threads import in_threads
from cutaway.errors import DataError
from cutaway.preprocessing import Preprocessing

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.filterwarnings("ignore::ResourceWarning")]


def plain(size, color="rgb", **options):
    channels = 1 if color == "grey" else 3
    return Preprocessing(size=size, color=color, mean=(0.0,) * channels, std=(1.0,) * channels, **options)


def in_memory(images):
    return Split("train", np.zeros(len(images), dtype=np.int64), images)


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(10):
            size = (int(rng.integers(20, 40)), int(rng.integers(20, 40)), 3)
            Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(
                tmp_path / "photos" / label / f"{index}.png"
            )
    return datasets.load(f"folder:{tmp_path / 'photos'}")


class TestStatistics:
    def test_by_hand(self):
        images = np.array([0, 255, 51, 102], dtype=np.uint8).reshape(4, 1, 1, 1)
        mean, std = datasets.statistics(in_memory(images), plain((1, 1), "grey"))
        # 0, 1, 0.2, 0.4: mean 0.4, squares 0.16 + 0.36 + 0.04 + 0.
        assert mean == pytest.approx((0.4,), abs=1e-12)
        assert std == pytest.approx(((0.56 / 4) ** 0.5,), abs=1e-12)

    def test_channels_apart_and_as_numpy_counts(self):
        images = np.random.default_rng(0).integers(0, 200, (30, 8, 9, 3), dtype=np.uint8)
        images[..., 2] //= 3
        mean, std = datasets.statistics(in_memory(images), plain((8, 9)))
        np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
        np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-12)

    def test_files_are_measured_after_resize_and_crop(self, photos):
        preprocessing = plain((8, 8), resize="shorter", resize_to=12)
        pictures = np.stack([preprocessing.picture(photos.train.image(i)) for i in range(len(photos.train))]) / 255
        mean, std = datasets.statistics(photos.train, preprocessing)
        np.testing.assert_allclose(mean, pictures.mean((0, 1, 2)), rtol=1e-12)
        np.testing.assert_allclose(std, pictures.std((0, 1, 2)), rtol=1e-12)
        memory = datasets.into_memory(photos, preprocessing)
        assert datasets.statistics(memory.train, preprocessing) == (mean, std)

    def test_a_cap_takes_pictures_from_all_over_the_split(self, photos):
        preprocessing = plain((8, 8))
        chosen = photos.train.take([0, 4, 8, 12])
        assert len(photos.train) == 16
        capped = datasets.statistics(photos.train, preprocessing, max_files=4)
        assert capped == datasets.statistics(chosen, preprocessing)
        assert capped != datasets.statistics(photos.train, preprocessing)

    def test_a_constant_channel_can_be_divided_by(self):
        mean, std = datasets.statistics(in_memory(np.full((2, 3, 3, 1), 255, dtype=np.uint8)), plain((3, 3), "grey"))
        assert (mean, std) == ((1.0,), (1.0,))

    def test_an_empty_split(self):
        with pytest.raises(DataError, match="is empty"):
            datasets.statistics(in_memory(np.zeros((0, 3, 3, 1), dtype=np.uint8)), plain((3, 3), "grey"))

    def test_fashion_mnists_published_figures(self):
        mean, std = datasets.statistics(datasets.load("fashion-mnist-sample").train, plain((28, 28), "grey"))
        assert mean == pytest.approx((0.2860,), abs=0.005)
        assert std == pytest.approx((0.3530,), abs=0.005)


class TestIntoMemory:
    def test_pictures_labels_and_fingerprint_stay(self, photos):
        preprocessing = plain((8, 10), "grey")
        memory = datasets.into_memory(photos, preprocessing)
        assert memory.in_memory
        assert memory.fingerprint == photos.fingerprint
        for name in datasets.SPLITS:
            before, after = photos.split(name), memory.split(name)
            assert after.prepared
            assert after.images.shape == (len(before), 8, 10, 1)
            np.testing.assert_array_equal(after.labels, before.labels)
            for index in range(len(before)):
                np.testing.assert_array_equal(after.image(index), preprocessing.picture(before.image(index)))

    def test_what_does_not_fit_stays_on_disk(self, photos):
        preprocessing = plain((8, 10))
        needed = 20 * 8 * 10 * 3
        assert datasets.into_memory(photos, preprocessing, limit_bytes=needed - 1) is photos
        assert datasets.into_memory(photos, preprocessing, limit_bytes=needed).in_memory

    def test_what_is_in_memory_is_left_alone(self):
        sample = datasets.load("fashion-mnist-sample")
        assert datasets.into_memory(sample, plain((28, 28), "grey")) is sample

    def test_progress(self, photos):
        seen = []

        def track(items, description, total=None):
            seen.append((description, total))
            yield from items

        datasets.into_memory(photos, plain((4, 4)), track=track)
        assert seen == [("Decoding train", 16), ("Decoding valid", 2), ("Decoding test", 2)]


class TestThreads:
    def test_results_in_order(self):
        assert list(in_threads(lambda item: item * item, range(500))) == [item * item for item in range(500)]

    def test_an_error_comes_out_and_the_rest_is_dropped(self):
        started = []

        def work(item):
            started.append(item)
            if item == 3:
                raise ValueError("three")
            return item

        with pytest.raises(ValueError, match="three"):
            list(in_threads(work, range(100_000)))
        assert len(started) < 2000


def test_take():
    split = Split("train", np.arange(5), np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1))
    taken = split.take([3, 1], name="test")
    assert taken.name == "test"
    assert taken.labels.tolist() == [3, 1]
    assert taken.images.ravel().tolist() == [3, 1]
