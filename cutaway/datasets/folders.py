"""Pictures in folders named after their classes."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cutaway.datasets.dataset import Dataset
from cutaway.datasets.naming import check_classes, class_named, split_named
from cutaway.datasets.options import Options
from cutaway.datasets.pictures import Picture, assemble, named
from cutaway.errors import DataError
from cutaway.images import EXTENSIONS
from cutaway.progress import Track

_LAYOUT = "Pictures belong into one folder per class, as in flowers/rose/1.jpg, or flowers/train/rose/1.jpg."


def load_folder(root: Path, *, options: Options, track: Track) -> Dataset:
    """A folder per class, at the top or inside `train`, `valid` (or `val`) and `test`.

    Folders inside a class's folder belong to the class, and are kept as the column `folder`. Hidden files and folders
    are passed over, and so are files that are no pictures by their suffix, which are counted. Links are followed, each
    folder once.

    Args:
        root: The folder.
        options: How it is split, and what is done about files that cannot be decoded.
        track: Shows progress.

    Raises:
        DataError: If the folder is not laid out so, or its pictures cannot be used.
    """
    try:
        if not root.is_dir():
            raise DataError(f"There is no folder {str(root)!r}.", hint="Give it as folder:PATH.")
        scan = _Scan()
        splits = _split_folders(root)
        if splits:
            for split, folder in splits.items():
                scan.classes_in(folder, split, f"{split}/")
        else:
            scan.classes_in(root, None, "")
    except OSError as error:
        raise DataError(f"{str(error.filename or root)!r} cannot be read: {error.strerror or error}.") from error
    check_classes(scan.labels)
    filled = {picture.label for picture in scan.pictures}
    empty = [label for label in scan.labels if label not in filled]
    if empty:
        raise DataError(
            f"There are no pictures for {named([repr(label) for label in empty])} in {str(root)!r}.",
            hint=f"Add some ({' '.join(sorted(EXTENSIONS))}) or remove the folder.",
        )
    if not scan.labels:
        raise DataError(f"{str(root)!r} holds no folders with pictures.", hint=_LAYOUT)
    name = f"folder:{root.resolve().name}"
    source = f"{len(scan.pictures):,} pictures in the folder {root.resolve().name}"
    return assemble(
        name,
        source,
        scan.pictures,
        options=options,
        track=track,
        num_ignored=scan.num_ignored,
    )


@dataclass
class _Scan:
    """What was found so far."""

    pictures: list[Picture] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    num_ignored: int = 0

    def classes_in(self, folder: Path, split: str | None, prefix: str) -> None:
        """Takes in the class folders of `folder`; `prefix` goes before the keys of their pictures."""
        folders, files = _entries(folder)
        loose = [path for path in files if path.suffix.lower() in EXTENSIONS]
        if loose:
            raise DataError(
                f"{len(loose)} pictures lie directly in {str(folder)!r}, outside any class: "
                f"{named([path.name for path in loose])}.",
                hint=_LAYOUT,
            )
        self.num_ignored += len(files)
        for path in folders:
            label = class_named(path.name)
            if label not in self.labels:
                self.labels.append(label)
            for file, key in self._files_below(path, class_named(path.name)):
                inside = key.partition("/")[2].rpartition("/")[0] or "."
                self.pictures.append(Picture(file, prefix + key, label, split, {"folder": inside}))

    def _files_below(self, top: Path, key: str) -> Iterator[tuple[Path, str]]:
        """Each picture below `top` and its key; visited by name, so the file system's order is no matter."""
        visited = set()
        waiting = [(top, key)]
        while waiting:
            folder, key = waiting.pop()
            status = folder.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            folders, files = _entries(folder)
            for file in files:
                if file.suffix.lower() in EXTENSIONS:
                    yield file, unicodedata.normalize("NFC", f"{key}/{file.name}")
                else:
                    self.num_ignored += 1
            waiting += [(below, f"{key}/{below.name}") for below in reversed(folders)]


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the files in a folder, by name, without hidden ones."""
    with os.scandir(folder) as entries:
        visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
        folders = [Path(entry.path) for entry in visible if entry.is_dir()]
        files = [Path(entry.path) for entry in visible if not entry.is_dir()]
    return folders, files


def _split_folders(root: Path) -> dict[str, Path]:
    """Split name -> its folder; empty where the folders at the top are the classes.

    A class may be called `train`: the folders are splits only where `train` holds folders.
    """
    folders, _ = _entries(root)
    train = [path for path in folders if split_named(path.name) == "train"]
    if not any(_entries(path)[0] for path in train):
        return {}
    strange = [path.name for path in folders if split_named(path.name) is None]
    if strange:
        raise DataError(
            f"{str(root)!r} holds {train[0].name!r} with class folders in it, and beside it {named(strange)}.",
            hint="Next to train, only valid and test are expected.",
        )
    splits: dict[str, Path] = {}
    for path in folders:
        split = split_named(path.name)
        assert split is not None
        if split in splits:
            raise DataError(
                f"{str(root)!r} holds both {splits[split].name!r} and {path.name!r}.", hint="Merge them into one."
            )
        splits[split] = path
    return splits
