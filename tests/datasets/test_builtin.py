"""Data sets that have a name."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cutaway import datasets
from cutaway.datasets import builtin
from cutaway.datasets.idx import read_idx
from cutaway.errors import DataError

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.filterwarnings("ignore::ResourceWarning")]

DEBIAN = pytest.mark.skipif(
    not builtin.DEBIAN_FASHION_MNIST.exists() and "CI" not in os.environ, reason="needs dataset-fashion-mnist"
)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, per_class=20, suffix=".gz"):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    written = {}
    for prefix, count in (("train", per_class), ("t10k", 3)):
        labels = np.repeat(np.arange(10, dtype=np.uint8), count)
        images = rng.integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
        for name, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            data = idx(array)
            (folder / f"{name}{suffix}").write_bytes(gzip.compress(data) if suffix else data)
            written[name] = array
    return written


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No Debian package, an empty cache, and no way to fetch anything; gives the cache's folder."""
    monkeypatch.setattr(builtin, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "cutaway"


@pytest.fixture
def offline(monkeypatch):
    torchvision = pytest.importorskip("torchvision")

    def refuse(self, root, train, download):
        raise RuntimeError("Error downloading: <urlopen error no route>")

    for name in ("FashionMNIST", "MNIST", "CIFAR10"):
        monkeypatch.setattr(getattr(torchvision.datasets, name), "__init__", refuse)


class TestSample:
    def test_it_is_balanced_and_split(self):
        sample = datasets.load("fashion-mnist-sample")
        assert sample.counts() == {"train": (540,) * 10, "valid": (60,) * 10, "test": (100,) * 10}
        assert sample.classes[0] == "T-shirt/top"
        assert sample.classes[9] == "Ankle boot"
        assert sample.in_memory
        assert sample.train.images.shape == (5400, 28, 28, 1)
        assert sample.train.images.dtype == np.uint8
        assert sample.train.labels.dtype == np.int64
        assert sample.train.image(3).shape == (28, 28, 1)
        assert sample.split("valid") is sample.valid
        with pytest.raises(DataError, match="no split 'val'"):
            sample.split("val")

    def test_splits_share_no_picture_and_follow_the_seed(self):
        first, again, other = (datasets.load("fashion-mnist-sample", seed=seed) for seed in (7, 7, 8))
        assert first.fingerprint == again.fingerprint != other.fingerprint
        pictures = [{image.tobytes() for image in first.split(name).images} for name in ("train", "valid")]
        assert not pictures[0] & pictures[1]
        np.testing.assert_array_equal(first.test.images, other.test.images)

    def test_its_fingerprint_is_written_down(self):
        # Another value means other training pixels for everyone.
        expected = "2461baa6d24eec5c29bf01a8a787e37b5d6604ad86e8fee6b0b723075a5e80b0"
        assert datasets.load("fashion-mnist-sample").fingerprint == expected

    def test_licence_lies_beside_it(self):
        licence = Path(builtin.__file__).parent / "sample" / "LICENSE.txt"
        assert "Zalando" in licence.read_text()
        assert "Permission is hereby granted" in licence.read_text()

    @DEBIAN
    def test_every_picture_is_one_of_the_full_set(self):
        full, sample = datasets.load("fashion-mnist"), datasets.load("fashion-mnist-sample")
        for names in (("train", "valid"), ("test",)):
            known = {
                (image.tobytes(), int(label))
                for name in names
                for image, label in zip(full.split(name).images, full.split(name).labels, strict=True)
            }
            for name in names:
                split = sample.split(name)
                assert {
                    (image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True)
                } <= known

    @DEBIAN
    def test_the_maker_makes_the_same_pictures_again(self, tmp_path):
        tool = Path(__file__).parents[2] / "tools" / "make_sample.py"
        script = (
            f"import runpy, pathlib; main = runpy.run_path({str(tool)!r})['main'];"
            f"main.__globals__['SAMPLE'] = pathlib.Path({str(tmp_path)!r}); main()"
        )
        root = str(Path(__file__).parents[2])
        subprocess.run([sys.executable, "-c", script], check=True, env=os.environ | {"PYTHONPATH": root})
        made = np.load(tmp_path / "fashion-mnist-sample.npz", allow_pickle=False)
        packed = np.load(Path(builtin.__file__).parent / "sample" / "fashion-mnist-sample.npz", allow_pickle=False)
        for name in packed.files:
            np.testing.assert_array_equal(made[name], packed[name])


class TestFashionMnist:
    @DEBIAN
    def test_debians_package_in_full(self):
        full = datasets.load("fashion-mnist")
        assert full.counts() == {"train": (5400,) * 10, "valid": (600,) * 10, "test": (1000,) * 10}
        assert full.source == "fashion-mnist from Debian's package dataset-fashion-mnist"

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    @pytest.mark.parametrize("place", ["fashion-mnist", "FashionMNIST/raw"])
    def test_the_cache_and_what_torchvision_left_there(self, nowhere, place, suffix):
        written = write_idx(nowhere / place, suffix=suffix)
        found = datasets.load("fashion-mnist")
        assert found.counts() == {"train": (18,) * 10, "valid": (2,) * 10, "test": (3,) * 10}
        np.testing.assert_array_equal(found.test.images[..., 0], written["t10k-images-idx3-ubyte"])
        assert str(nowhere) not in found.source

    def test_nothing_anywhere_names_all_three_places_and_what_to_do(self, nowhere, offline, tmp_path):
        with pytest.raises(DataError) as caught:
            datasets.load("fashion-mnist")
        message = str(caught.value)
        for part in (
            str(tmp_path / "debian"),
            str(nowhere / "fashion-mnist"),
            str(nowhere / "FashionMNIST"),
            "no route",
            "apt-get install dataset-fashion-mnist",
            "--data fashion-mnist-sample",
        ):
            assert part in message

    def test_without_torchvision_the_error_says_how_to_install_it(self, nowhere, monkeypatch):
        monkeypatch.setitem(sys.modules, "torchvision", None)
        with pytest.raises(DataError, match=r"pip install 'cutaway\[train\]'"):
            datasets.load("fashion-mnist")

    def test_labels_that_do_not_fit_are_refused(self, nowhere):
        write_idx(nowhere / "fashion-mnist")
        labels = nowhere / "fashion-mnist" / "train-labels-idx1-ubyte.gz"
        labels.write_bytes(gzip.compress(idx(np.full(200, 11, dtype=np.uint8))))
        with pytest.raises(DataError, match="labels outside 0 to 9"):
            datasets.load("fashion-mnist")
        labels.write_bytes(gzip.compress(idx(np.zeros(199, dtype=np.uint8))))
        with pytest.raises(DataError, match="200 images but 199 labels"):
            datasets.load("fashion-mnist")


class TestTorchvision:
    def test_mnist_from_the_cache_needs_no_torch(self, nowhere):
        write_idx(nowhere / "MNIST" / "raw")
        script = (
            "import sys; from cutaway import datasets; d = datasets.load('mnist');"
            "assert d.classes == tuple('0123456789'); assert 'torch' not in sys.modules; print(d.counts()['valid'])"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == str((2,) * 10), done.stderr

    def test_cifar10_takes_torchvisions_arrays(self, nowhere, monkeypatch):
        torchvision = pytest.importorskip("torchvision")

        class Fake:
            def __init__(self, root, train, download):
                assert download
                assert Path(root) == nowhere
                count = 20 if train else 2
                self.targets = list(range(10)) * count
                self.data = np.full((10 * count, 32, 32, 3), count, dtype=np.uint8)

        monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fake)
        cifar = datasets.load("cifar10")
        assert cifar.classes[6] == "frog"
        assert cifar.train.images.shape == (180, 32, 32, 3)
        assert cifar.counts()["test"] == (2,) * 10

    @pytest.mark.parametrize("name", ["mnist", "cifar10"])
    def test_no_network_is_an_error_for_the_person(self, nowhere, offline, name):
        with pytest.raises(DataError, match=f"{name} is not on this machine and could not be fetched: .*no route"):
            datasets.load(name)


class TestIdx:
    def test_what_is_written_is_read(self, tmp_path):
        array = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)
        (tmp_path / "a.gz").write_bytes(gzip.compress(idx(array)))
        (tmp_path / "b").write_bytes(idx(array))
        for name in ("a.gz", "b"):
            np.testing.assert_array_equal(read_idx(tmp_path / name, num_dimensions=3), array)
            assert read_idx(tmp_path / name, num_dimensions=3).flags.writeable

    @pytest.mark.parametrize(
        ("data", "problem"),
        [
            (b"", "no IDX file"),
            (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "no IDX file"),
            (b"\0\0\x08\x03\0\0\0\x01\0\0\0\x01\0\0\0\x01a", "no IDX file"),
            (b"\0\0\x08\x01\0\0\0\x05abcd", "is truncated"),
            (b"\0\0\x08\x01\xff\xff\xff\xffabcd", "is truncated"),
            (b"\0\0\x08\x01\0\0\0\x03abcd", "longer than its header says"),
        ],
    )
    def test_damage_is_named(self, tmp_path, data, problem):
        for name, stored in (("plain", data), ("zipped.gz", gzip.compress(data))):
            (tmp_path / name).write_bytes(stored)
            with pytest.raises(DataError, match=problem) as caught:
                read_idx(tmp_path / name, num_dimensions=1)
            assert name in caught.value.message

    def test_gzip_cut_short_or_broken(self, tmp_path):
        stored = gzip.compress(idx(np.arange(200, dtype=np.uint8)))
        for damaged in (stored[:-9], stored[:30], b"no gzip at all", stored[:40] + b"\xff\xff\xff" + stored[43:]):
            (tmp_path / "x.gz").write_bytes(damaged)
            with pytest.raises(DataError, match=r"cannot be read|is truncated"):
                read_idx(tmp_path / "x.gz", num_dimensions=1)

    def test_a_file_that_inflates_without_end_is_not_followed(self, tmp_path):
        (tmp_path / "x.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x03abc" + b"\0" * 2**27))
        with pytest.raises(DataError, match="longer than its header says"):
            read_idx(tmp_path / "x.gz", num_dimensions=1)


def test_the_bare_name_of_a_folder_or_list_is_told_with_its_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos.csv").write_text("path,label\n")
    for name, meant in (("photos", "write folder:photos."), ("photos.csv", "write csv:photos.csv.")):
        with pytest.raises(DataError) as error:
            datasets.load(name)
        assert error.value.hint.endswith(meant)
    with pytest.raises(DataError, match="Choose one of"):
        datasets.load("x" * 5000)


def test_an_unknown_name_lists_the_known():
    for name in ("imagenet", "folder:", "csv", ""):
        with pytest.raises(DataError) as caught:
            datasets.load(name)
        for known in ("fashion-mnist-sample", "mnist", "cifar10", "folder:PATH", "csv:FILE"):
            assert known in caught.value.hint


def test_importing_and_loading_the_sample_needs_no_torch():
    script = (
        "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None;"
        "from cutaway import datasets; print(len(datasets.load('fashion-mnist-sample').train))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "5400", done.stderr
