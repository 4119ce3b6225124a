"""Augmentation as a whole: the same for any batch, place and number of workers, and another for each epoch."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from cutaway import datasets
from cutaway.batches import Feed
from cutaway.datasets.split import Split
from cutaway.errors import CutawayError, SettingsError
from cutaway.settings.augmentation_names import AUGMENTATIONS
from cutaway.train.augmentation import cuts_photos
from cutaway.train.augmentation.draws import draws_for
from cutaway.train.augmentation.geometry import crop_box

EVERYTHING = (
    "crop", "flip", "vertical-flip", "rotate", "affine", "colour-jitter:0.3,0.3,0.3,0.2", "grayscale:0.3", "posterize",
    "solarize", "sharpness", "autocontrast", "equalize", "randaugment", "trivial", "erase", "salt-and-pepper",
)  # fmt: skip


pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve photos of several sizes, as files."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    paths = []
    for number in range(12):
        size = (int(random.integers(30, 50)), int(random.integers(30, 70)))
        coarse = random.integers(0, 256, (6, 7, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BILINEAR).save(folder / f"{number}.png")
        paths.append(folder / f"{number}.png")
    return Split("train", np.zeros(12, np.int64), paths=tuple(paths))


@pytest.mark.parametrize("word", [*AUGMENTATIONS, " ".join(EVERYTHING)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_is_the_same_in_any_batch(augmenter, noise, word, channels):
    chosen = augmenter(*word.split(), color="grey" if channels == 1 else "rgb", size=(20, 24))
    pictures, indices = noise(33, channels, 20, 24), torch.arange(33) * 5
    whole = chosen.batch(pictures, 3, indices)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(1))
    assert torch.equal(chosen.batch(pictures[order], 3, indices[order]), whole[order])
    for some in (slice(0, 1), slice(4, 11)):
        assert torch.equal(chosen.batch(pictures[some], 3, indices[some]), whole[some])
    assert whole.dtype == torch.uint8
    assert whole.shape == pictures.shape
    assert torch.equal(pictures, noise(33, channels, 20, 24))


@pytest.mark.parametrize("word", list(AUGMENTATIONS))
def test_each_seed_and_epoch_is_another(augmenter, noise, word):
    pictures, indices = noise(33, 3, 20, 24), torch.arange(33)
    first = augmenter(word, seed=1).batch(pictures, 0, indices)
    assert not torch.equal(first, pictures)
    assert not torch.equal(first, augmenter(word, seed=1).batch(pictures, 1, indices))
    assert not torch.equal(first, augmenter(word, seed=2).batch(pictures, 0, indices))
    assert torch.equal(first, augmenter(word, seed=1).batch(pictures, 0, indices))


def test_two_augmentations_draw_apart(augmenter, noise):
    pictures, indices = noise(200, 1, 4, 4), torch.arange(200)
    both = augmenter("flip", "vertical-flip", color="grey").batch(pictures, 0, indices)
    # Three in four, where one draw for both would change every second.
    assert 125 < int((both != pictures).flatten(1).any(1).sum()) < 175


def test_the_number_of_threads_changes_nothing(augmenter, noise):
    pictures, indices = noise(300, 3, 28, 28), torch.arange(300)
    chosen = augmenter(*EVERYTHING)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = chosen.batch(pictures, 0, indices)
        torch.set_num_threads(3)
        assert torch.equal(chosen.batch(pictures, 0, indices), one)
    finally:
        torch.set_num_threads(before)


def decoded(feed, chosen, batch_size, epoch=2):
    order = torch.tensor([7, 0, 11, 3, 4, 9, 1])
    batches = list(feed.batches(batch_size, order, prepare=partial(chosen.photo, epoch=epoch)))
    return torch.cat([feed.pictures(batch) for batch in batches]), order


@pytest.mark.parametrize("words", [EVERYTHING, ("resized-crop", "flip", "rotate")])
def test_files_are_varied_alike_by_any_number_of_workers(augmenter, photos, words):
    chosen = augmenter(*words, resize="shorter", resize_to=32)
    preprocessing = chosen._preprocessing
    here, _ = decoded(Feed(photos, preprocessing), chosen, 3)
    for workers, batch_size in ((1, 7), (2, 2)):
        there, _ = decoded(Feed(photos, preprocessing, workers=workers), chosen, batch_size)
        assert torch.equal(there, here)
    another, _ = decoded(Feed(photos, preprocessing), chosen, 3, epoch=3)
    assert not torch.equal(another, here)


def test_pictures_in_memory_are_varied_as_those_in_files(augmenter, photos):
    chosen = augmenter(*EVERYTHING, resize="shorter", resize_to=32)
    preprocessing = chosen._preprocessing
    from_files, order = decoded(Feed(photos, preprocessing), chosen, 3)
    images = np.stack([preprocessing.picture(photos.image(index)) for index in range(12)])
    memory = Feed(Split("train", photos.labels, images, prepared=True), preprocessing)
    (batch,) = memory.batches(7, order, prepare=lambda *_: pytest.fail("nothing is decoded"))
    assert torch.equal(chosen.batch(memory.pictures(batch), 2, batch.indices), from_files)


def test_resized_crop_takes_its_part_out_of_the_whole_photo(augmenter, photos):
    chosen = augmenter("resized-crop:0.3", size=(16, 16), resize="shorter", resize_to=20, seed=5)
    photo = photos.image(4)
    draws = draws_for("augment 0 resized-crop", 5, 1, np.array([4]))
    top, left, rows, columns = (int(side[0]) for side in crop_box(draws, (0.3, 1.0), *photo.shape[:2]))
    part = Image.fromarray(photo[top : top + rows, left : left + columns])
    wanted = np.asarray(part.resize((16, 16), Image.Resampling.BILINEAR))
    assert np.array_equal(chosen.photo(photo, 4, 1), wanted)


def test_a_grey_network_gets_grey_pictures(augmenter, photos):
    chosen = augmenter("resized-crop", "trivial", color="grey")
    assert chosen.photo(photos.image(0), 0, 0).shape == (28, 28, 1)


def test_only_resized_crop_wants_photos(augmenter):
    from cutaway.train import TrainSettings

    assert cuts_photos(TrainSettings(augment=("resized-crop", "flip")))
    assert not cuts_photos(TrainSettings(augment=("crop", "flip")))
    assert not augmenter()
    assert augmenter("flip")


def test_nothing_is_drawn_from_the_global_generators(augmenter, noise, photos):
    pictures = noise(8, 3, 28, 28)
    torch.manual_seed(0)
    np.random.seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    augmenter(*EVERYTHING).batch(pictures, 0, torch.arange(8))
    augmenter("resized-crop", *EVERYTHING).photo(photos.image(0), 0, 0)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])


def test_a_file_that_cannot_be_decoded_is_told_of_as_ever(augmenter, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    split = Split("train", np.zeros(1, np.int64), paths=(tmp_path / "broken.png",))
    chosen = augmenter("flip")
    with pytest.raises(CutawayError, match="broken"):
        list(Feed(split, chosen._preprocessing).batches(1, prepare=partial(chosen.photo, epoch=0)))


def test_decoding_some_splits_only_leaves_the_others_as_files(pictures, augmenter):
    dataset = datasets.load(f"folder:{pictures}")
    preprocessing = augmenter()._preprocessing
    some = datasets.into_memory(dataset, preprocessing, names=["valid", "test"])
    assert some.train is dataset.train
    assert some.valid.prepared and some.test.prepared  # noqa: PT018
    assert not some.in_memory
    few = 28 * 28 * 3 * (len(dataset.valid) + len(dataset.test))
    assert datasets.into_memory(dataset, preprocessing, names=["valid", "test"], limit_bytes=few).test.prepared
    assert not datasets.into_memory(dataset, preprocessing, names=["valid", "test"], limit_bytes=few - 1).test.prepared


def test_a_crop_that_leaves_nothing_is_refused_in_words(augmenter):
    with pytest.raises(SettingsError, match=r"crop by 28 pixels .* 28x40.* fewer than 28"):
        augmenter("flip", "crop:28", size=(28, 40))
    assert augmenter("crop:27", size=(28, 40))
