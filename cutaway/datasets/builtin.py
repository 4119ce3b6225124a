"""The data sets that have a name: Fashion-MNIST and its embedded sample, MNIST and CIFAR-10."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cutaway.datasets.cache import cache_folder
from cutaway.datasets.dataset import Dataset
from cutaway.datasets.duplicates import content_hashes, settle
from cutaway.datasets.idx import read_idx
from cutaway.datasets.options import Options
from cutaway.datasets.split import SPLITS, Split, fingerprint
from cutaway.datasets.splitting import stratified
from cutaway.errors import DataError

Labels = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DIGIT_CLASSES = tuple(str(digit) for digit in range(10))
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def load_fashion_mnist_sample(options: Options, download: bool = True) -> Dataset:
    """6,000 training and 1,000 test images of Fashion-MNIST, balanced, from inside the package."""
    sample = resources.files("cutaway.datasets") / "sample" / "fashion-mnist-sample.npz"
    with sample.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        train = (arrays["train_images"], arrays["train_labels"])
        test = (arrays["test_images"], arrays["test_labels"])
    return _assembled("fashion-mnist-sample", FASHION_CLASSES, train, test, options, "the sample inside cutaway")


def load_fashion_mnist(options: Options, download: bool = True) -> Dataset:
    """All 60,000 training and 10,000 test images: Debian's package, else the cache, else torchvision's download."""
    cache = cache_folder()
    places = _fashion_mnist_places(cache)
    found = next((folder for folder in places if _idx_files(folder) is not None), None)
    if found is None:
        advice = (
            f"Looked in {DEBIAN_FASHION_MNIST}, {cache / 'fashion-mnist'} and, through torchvision, "
            f"{cache / 'FashionMNIST' / 'raw'}. Do one of these: apt-get install dataset-fashion-mnist; put the four "
            f"files ({', '.join(name + '.gz' for name in _IDX_FILES)}) into {cache / 'fashion-mnist'}; or go on with "
            "--data fashion-mnist-sample."
        )
        _download("FashionMNIST", "fashion-mnist", cache, advice, allowed=download)
        found = cache / "FashionMNIST" / "raw"
    return _from_idx("fashion-mnist", FASHION_CLASSES, found, options, places[found])


def fashion_mnist_is_here() -> bool:
    """Whether the full Fashion-MNIST lies on this machine already, so that loading it downloads nothing."""
    return any(_idx_files(folder) is not None for folder in _fashion_mnist_places(cache_folder()))


def found_here() -> dict[str, Path | None]:
    """Where each data set with a name lies on this machine; None where loading it would download it."""
    cache = cache_folder()
    cifar10 = (cache / "cifar-10-batches-py", cache / "cifar-10-python.tar.gz")
    return {
        "fashion-mnist-sample": Path(str(resources.files("cutaway.datasets") / "sample")),
        "fashion-mnist": next((place for place in _fashion_mnist_places(cache) if _idx_files(place)), None),
        "mnist": next((place for place in (cache / "MNIST" / "raw",) if _idx_files(place)), None),
        "cifar10": next((place for place in cifar10 if place.exists()), None),
    }


def _fashion_mnist_places(cache: Path) -> dict[Path, str]:
    return {
        DEBIAN_FASHION_MNIST: "Debian's package dataset-fashion-mnist",
        cache / "fashion-mnist": "the cache",
        cache / "FashionMNIST" / "raw": "torchvision's download",
    }


def load_mnist(options: Options, download: bool = True) -> Dataset:
    """All 60,000 training and 10,000 test digits, from the cache or through torchvision's download."""
    folder = cache_folder() / "MNIST" / "raw"
    if _idx_files(folder) is None:
        advice = (
            f"Put the four files ({', '.join(name + '.gz' for name in _IDX_FILES)}) into {folder}, "
            "or go on with --data fashion-mnist-sample."
        )
        _download("MNIST", "mnist", cache_folder(), advice, allowed=download)
    return _from_idx("mnist", DIGIT_CLASSES, folder, options, "torchvision's download")


def load_cifar10(options: Options, download: bool = True) -> Dataset:
    """All 50,000 training and 10,000 test images, in torchvision's checksum-verified archive."""
    advice = f"Put cifar-10-python.tar.gz into {cache_folder()}, or go on with --data fashion-mnist-sample."
    train, test = _download("CIFAR10", "cifar10", cache_folder(), advice, allowed=download)
    parts = [(np.asarray(part.data), np.asarray(part.targets)) for part in (train, test)]
    return _assembled("cifar10", CIFAR10_CLASSES, parts[0], parts[1], options, "torchvision's download")


def _idx_files(folder: Path) -> tuple[Path, ...] | None:
    """The four files, each gzipped or plain, or None where one is missing."""
    files = []
    for name in _IDX_FILES:
        candidates = (folder / f"{name}.gz", folder / name)
        present = next((path for path in candidates if path.is_file()), None)
        if present is None:
            return None
        files.append(present)
    return tuple(files)


def _from_idx(name: str, classes: tuple[str, ...], folder: Path, options: Options, source: str) -> Dataset:
    files = _idx_files(folder)
    if files is None:
        raise DataError(
            f"{name} is not complete in {folder}.", hint=f"The folder needs {', '.join(_IDX_FILES)}, plain or as .gz."
        )
    train = (read_idx(files[0], num_dimensions=3), read_idx(files[1], num_dimensions=1))
    test = (read_idx(files[2], num_dimensions=3), read_idx(files[3], num_dimensions=1))
    return _assembled(name, classes, train, test, options, source)


def _download(torchvision_name: str, name: str, folder: Path, advice: str, *, allowed: bool) -> tuple[Any, Any]:
    """Both parts of one of torchvision's data sets, fetched into `folder` where they are not there yet."""
    try:
        import torchvision  # imports torch, which nothing else here needs
    except ImportError as error:
        raise DataError(
            f"{name} is not on this machine, and torchvision, which would fetch it, is not installed.",
            hint=f"pip install 'cutaway[train]'. {advice}",
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        factory = getattr(torchvision.datasets, torchvision_name)
        return factory(folder, train=True, download=allowed), factory(folder, train=False, download=allowed)
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise DataError(f"{name} is not on this machine and could not be fetched: {reason}.", hint=advice) from error


def _assembled(
    name: str,
    classes: tuple[str, ...],
    train_part: tuple[Pixels, npt.NDArray[Any]],
    test_part: tuple[Pixels, npt.NDArray[Any]],
    options: Options,
    source: str,
) -> Dataset:
    images, labels = _checked(name, *train_part, len(classes))
    test_images, test_labels = _checked(name, *test_part, len(classes))
    keys = [str(index) for index in range(len(labels))]
    if options.splitting.again:
        images, labels = np.concatenate([images, test_images]), np.concatenate([labels, test_labels])
        keys += [f"test/{index}" for index in range(len(test_labels))]
    shares = options.splitting.shares(name, () if options.splitting.again else ("test",))
    chosen = stratified(labels, keys, shares, seed=options.splitting.seed)
    if not options.splitting.again:
        splits = [Split(split, labels[chosen[split]], images[chosen[split]]) for split in ("train", "valid")]
        splits.append(Split("test", test_labels, test_images))
    else:
        none = np.empty(0, dtype=np.int64)
        splits = [Split(split, labels[where], images[where]) for split in SPLITS for where in [chosen.get(split, none)]]
    contents = [[] if options.duplicates == "ignore" else content_hashes(split) for split in splits]
    settled = settle(name, splits, contents, lambda split, index: f"{split}[{index}]", options.duplicates)
    train, valid, test = settled.splits
    digest = fingerprint(classes, settled.splits)
    told = f"{name} from {source}"
    return Dataset(name, classes, train, valid, test, digest, told, in_memory=True, duplicates=settled.duplicates)


def _checked(name: str, images: Pixels, labels: npt.NDArray[Any], num_classes: int) -> tuple[Pixels, Labels]:
    if labels.ndim != 1 or len(images) != len(labels) or len(labels) == 0:
        raise DataError(f"{name} has {len(images)} images but {len(labels)} labels.", hint="Fetch it again.")
    whole = labels.astype(np.int64)
    if whole.min() < 0 or whole.max() >= num_classes:
        raise DataError(f"{name} has labels outside 0 to {num_classes - 1}.", hint="Fetch it again.")
    return images if images.ndim == 4 else images[..., None], whole
