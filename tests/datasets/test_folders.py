"""Pictures in folders named after their classes."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from cutaway import datasets
from cutaway.datasets import folders, pictures
from cutaway.errors import DataError

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.filterwarnings("ignore::ResourceWarning")]


def load(folder, **options):
    return datasets.load(f"folder:{folder}", **options)


def members(dataset, folder):
    """Split name -> names of its files relative to the folder."""
    return {
        name: {path.relative_to(folder).as_posix() for path in dataset.split(name).paths} for name in datasets.SPLITS
    }


class TestStratifiedSplit:
    def test_eighty_ten_ten_of_each_class(self, make_folder, pets):
        found = load(make_folder(pets))
        assert found.classes == ("cat", "dog")
        assert found.counts() == {"train": (24, 16), "valid": (3, 2), "test": (3, 2)}
        assert not found.in_memory
        assert found.name == "folder:pets"
        assert found.source == "50 pictures in the folder pets"
        for name in datasets.SPLITS:
            split = found.split(name)
            for index, path in enumerate(split.paths):
                assert found.classes[split.labels[index]] == path.parent.name
                expected = int(path.stem) + (100 if path.parent.name == "dog" else 0)
                assert split.image(index).shape == (4, 6, 3)
                assert (split.image(index) == expected).all()

    def test_the_file_systems_order_and_the_place_do_not_matter(self, make_folder, pets, tmp_path, monkeypatch):
        folder = make_folder(pets)
        expected = load(folder, seed=3)
        real = os.scandir

        class Backwards:
            def __init__(self, path):
                with real(path) as entries:
                    self.entries = list(entries)[::-1]

            def __enter__(self):
                return iter(self.entries)

            def __exit__(self, *error):
                pass

        monkeypatch.setattr(folders.os, "scandir", Backwards)
        moved = tmp_path / "elsewhere" / "animals"
        shutil.copytree(folder, moved)
        found = load(moved, seed=3)
        assert members(found, moved) == members(expected, folder)
        assert [path.name for path in found.train.paths] == [path.name for path in expected.train.paths]
        assert found.fingerprint == expected.fingerprint

    def test_the_seed_decides(self, make_folder, pets):
        folder = make_folder(pets)
        first, again, other = (members(load(folder, seed=seed), folder) for seed in (0, 0, 1))
        assert first == again != other
        assert first["train"] | first["valid"] | first["test"] == set(pets)

    def test_a_picture_more_leaves_nearly_all_others_where_they_were(self, make_folder, pets):
        folder = make_folder(pets)
        before = members(load(folder), folder)
        make_folder({"cat/new.png": 200})
        after = members(load(folder), folder)
        assert len(before["train"] - after["train"]) <= 3

    def test_tiny_classes_train_at_least(self, make_folder, pets):
        found = load(make_folder(pets | {"mouse/1.png": 250}))
        assert found.counts()["train"][2] == 1
        with pytest.raises(DataError, match="3 images in 2 classes are too few"):
            load(make_folder({"a/1.png": 1, "a/2.png": 2, "b/1.png": 3}, root="tiny"))
        smallest = load(make_folder({"a/1.png": 1, "a/2.png": 2, "b/1.png": 3, "b/2.png": 4}, root="smallest"))
        assert [len(smallest.split(name)) for name in datasets.SPLITS] == [2, 1, 1]


class TestSplitFolders:
    @pytest.mark.parametrize("valid", ["valid", "val", "Validation"])
    def test_train_valid_and_test_are_taken_as_they_are(self, make_folder, valid):
        files = {f"train/cat/{index}.png": index for index in range(5)} | {"train/dog/0.png": 50}
        files |= {f"{valid}/cat/0.png": 60, f"{valid}/dog/0.png": 61, "test/dog/0.png": 70}
        found = load(make_folder(files))
        assert found.counts() == {"train": (5, 1), "valid": (1, 1), "test": (0, 1)}

    def test_what_is_missing_is_set_aside_from_train(self, make_folder):
        files = {f"train/{label}/{index}.png": index for label in "ab" for index in range(20)}
        found = load(make_folder(files))
        assert found.counts() == {"train": (16, 16), "valid": (2, 2), "test": (2, 2)}
        found = load(make_folder(files | {"test/a/0.png": 99, "test/b/0.png": 98}))
        assert found.counts() == {"train": (18, 18), "valid": (2, 2), "test": (1, 1)}

    def test_a_class_may_be_called_train(self, make_folder):
        files = {f"{label}/{index}.png": index for label in ("train", "bus") for index in range(5)}
        assert load(make_folder(files)).classes == ("bus", "train")

    def test_folders_beside_train_are_named(self, make_folder):
        files = {f"train/{label}/{index}.png": index for label in "ab" for index in range(5)}
        with pytest.raises(DataError, match="beside it extra"):
            load(make_folder(files | {"extra/1.png": 1}))

    def test_val_and_valid_together(self, make_folder):
        files = {f"{split}/{label}/0.png": 1 for split in ("train", "val", "valid") for label in "ab"}
        with pytest.raises(DataError, match="both 'val' and 'valid'"):
            load(make_folder(files))

    def test_a_test_folder_without_classes(self, make_folder):
        files = {f"train/{label}/{index}.png": index for label in "ab" for index in range(5)}
        with pytest.raises(DataError, match=r"1 pictures lie directly in .*test.*: 1.png"):
            load(make_folder(files | {"test/1.png": 1}))

    def test_a_class_that_is_never_trained_on(self, make_folder):
        files = {f"train/{label}/{index}.png": index for label in "ab" for index in range(5)}
        with pytest.raises(DataError, match="no readable picture to train on for 'c'"):
            load(make_folder(files | {"test/c/1.png": 1, "valid/a/1.png": 3}))


class TestWhatIsThere:
    def test_classes_are_ordered_as_people_count(self, make_folder):
        labels = ["class 10", "class 2", "Apple", "banana", "élan"]
        found = load(make_folder({f"{label}/{index}.png": index for label in labels for index in range(3)}))
        assert found.classes == ("Apple", "banana", "class 2", "class 10", "élan")

    def test_hidden_files_are_passed_over_and_other_files_counted(self, make_folder, pets):
        folder = make_folder(pets)
        expected = load(folder)
        assert expected.num_ignored == 0
        (folder / "readme.txt").write_text("hello")
        (folder / "cat" / "Thumbs.db").write_text("hello")
        (folder / "cat" / ".DS_Store").write_text("hello")
        (folder / ".git").mkdir()
        make_folder({".git/x.png": None, "cat/._1.png": 5})
        found = load(folder)
        assert found.num_ignored == 2
        assert found.fingerprint == expected.fingerprint

    def test_every_suffix_in_either_case_is_found(self, make_folder):
        suffixes = ["jpg", "JPEG", "png", "webp", "bmp", "tif", "TIFF", "gif"]
        files = {f"{label}/{index}.{suffix}": index for label in "ab" for index, suffix in enumerate(suffixes)}
        found = load(make_folder(files))
        assert sum(len(found.split(name)) for name in datasets.SPLITS) == 16

    def test_nested_folders_belong_to_their_class(self, make_folder, pets):
        found = load(make_folder(pets | {"cat/indoor/deep/1.png": 240}))
        assert sum(sum(counts) for counts in found.counts().values()) == 51
        assert sum(counts[0] for counts in found.counts().values()) == 31

    def test_links_are_followed_and_loops_end(self, make_folder, pets, tmp_path):
        folder = make_folder(pets)
        more = make_folder({"1.png": 201, "2.png": 202}, root="more")
        (folder / "cat" / "more").symlink_to(more)
        (folder / "cat" / "again").symlink_to(folder / "cat")
        (more / "back").symlink_to(folder / "cat")
        assert sum(counts[0] for counts in load(folder).counts().values()) == 32

    def test_unreadable_files_are_named_counted_and_skipped_on_demand(self, make_folder, pets):
        folder = make_folder(pets | {f"cat/bad{index}.png": None for index in range(7)})
        (folder / "dog" / "gone.png").symlink_to(folder / "nowhere.png")
        with pytest.raises(DataError) as caught:
            load(folder)
        message = caught.value.message
        assert message.startswith("8 of 58 pictures in folder:pets cannot be read: cat/bad0.png (cannot be decoded:")
        assert "cat/bad4.png" in message
        assert "cat/bad5.png" not in message
        assert message.endswith("; and 3 more.")
        assert "--skip-unreadable" in caught.value.hint
        found = load(folder, skip_unreadable=True)
        assert found.num_skipped == 8
        assert found.fingerprint == load(make_folder(pets, root="clean")).fingerprint

    def test_the_fingerprint_follows_pixels_labels_and_splits(self, make_folder, pets):
        prints = {load(make_folder(pets)).fingerprint, load(make_folder(pets), seed=1).fingerprint}
        prints.add(load(make_folder(pets | {"cat/0.png": 99}, root="pixel")).fingerprint)
        renamed = {name.replace("cat", "lion"): level for name, level in pets.items()}
        prints.add(load(make_folder(renamed, root="class")).fingerprint)
        assert len(prints) == 4

    def test_progress_counts_every_picture(self, make_folder, pets):
        seen = []

        def track(items, description, total=None):
            for item in items:
                seen.append((description, total))
                yield item

        load(make_folder(pets), track=track)
        assert seen == [("Reading pictures", 50)] * 50 + [("Checking pictures", 50)] * 50

    def test_pictures_are_decoded_once_and_again_where_their_bytes_change(self, make_folder, pets, monkeypatch):
        folder = make_folder(pets)
        decoded = []
        real = pictures.decode
        monkeypatch.setattr(pictures, "decode", lambda path: decoded.append(path) or real(path))
        first = load(folder)
        assert len(decoded) == 50
        again = load(folder, seed=0)
        assert len(decoded) == 50
        assert again.fingerprint == first.fingerprint
        (folder / "cat" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\njunk")
        with pytest.raises(DataError, match="1 of 50 pictures"):
            load(folder)
        with pytest.raises(DataError, match="1 of 50 pictures"):
            load(folder)

    def test_a_cache_that_cannot_be_written_does_no_harm(self, make_folder, pets, monkeypatch, tmp_path):
        (tmp_path / "blocked").write_text("a file where the cache should be")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))
        assert len(load(make_folder(pets)).train) == 40


class TestRefusals:
    def test_no_folder(self, tmp_path):
        with pytest.raises(DataError, match="There is no folder"):
            load(tmp_path / "none")

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(DataError, match="no folders with pictures"):
            load(tmp_path)

    def test_a_single_class(self, make_folder):
        with pytest.raises(DataError, match="only one class, 'cat'"):
            load(make_folder({f"cat/{index}.png": index for index in range(5)}))

    def test_an_empty_class(self, make_folder, pets):
        folder = make_folder(pets)
        (folder / "mouse").mkdir()
        (folder / "mouse" / "notes.txt").write_text("none yet")
        with pytest.raises(DataError, match="no pictures for 'mouse'"):
            load(folder)

    def test_pictures_outside_any_class(self, make_folder, pets):
        with pytest.raises(DataError, match=r"1 pictures lie directly in .*: loose.png") as caught:
            load(make_folder(pets | {"loose.png": 1}))
        assert "one folder per class" in caught.value.hint

    def test_a_class_whose_name_is_no_text(self, make_folder, pets):
        name = os.fsdecode(b"b\xffd")
        try:
            folder = make_folder(pets | {f"{name}/1.png": 1})
        except OSError:
            pytest.skip("this file system takes UTF-8 alone")
        with pytest.raises(DataError, match="is not UTF-8"):
            load(folder)

    def test_classes_that_differ_by_capitals(self, make_folder, pets):
        folder = make_folder(pets | {"Cat/1.png": 1})
        if len(list(folder.iterdir())) == 2:
            pytest.skip("this file system knows no capitals")
        with pytest.raises(DataError, match="'Cat' and 'cat' differ by capital letters only"):
            load(folder)

    def test_a_class_of_unreadable_pictures_only(self, make_folder, pets):
        folder = make_folder(pets | {"mouse/1.png": None})
        with pytest.raises(DataError, match="no readable picture to train on for 'mouse'"):
            load(folder, skip_unreadable=True)


def test_labels_match_pixels_in_every_split(make_folder, pets):
    found = load(make_folder(pets))
    for name in datasets.SPLITS:
        split = found.split(name)
        levels = np.array([split.image(index)[0, 0, 0] for index in range(len(split))])
        np.testing.assert_array_equal(split.labels, (levels >= 100).astype(np.int64))


def test_folders_inside_a_class_are_kept_as_a_column(make_folder):
    names = {
        f"{label}/{place}{n}.png": n for label in ("cat", "dog") for place in ("", "day/", "day/rain/") for n in "0123"
    }
    found = load(make_folder({name: int(level) for name, level in names.items()}), valid_share=0.2, test_share=0.2)
    for name in datasets.SPLITS:
        split = found.split(name)
        assert set(split.keys) <= set(names)
        assert split.columns["folder"] == tuple(key.split("/", 1)[1].rpartition("/")[0] or "." for key in split.keys)
    split_folders = {f"{split}/{name}": int(level) for split in ("train", "test") for name, level in names.items()}
    found = load(make_folder(split_folders, root="parted"))
    assert set(found.test.columns["folder"]) == {".", "day", "day/rain"}
    assert all(key.startswith("test/") for key in found.test.keys)
