"""What layers return for many pictures, written to .npy files batch by batch."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cutaway.cli.file_names import layer_words
from cutaway.errors import InspectionError
from cutaway.processes import is_running

if TYPE_CHECKING:
    from torch import Tensor

    from cutaway.inspect.layer_statistics import Recorded

INDEX = "index.json"
_TEMPORARY = re.compile(r"\.tmp-(\d{1,9})-(?:\d\d+-.*\.npy|index\.json)", re.DOTALL)


@dataclass
class _File:
    """One array that grows: its name, what its rows are, and how many there are."""

    name: str
    layer: str
    part: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows: int = 0

    def header(self) -> dict[str, Any]:
        descr = np.lib.format.dtype_to_descr(self.dtype)
        return {"descr": descr, "fortran_order": False, "shape": (self.rows, *self.shape)}


class TensorFiles:
    """Writes each tensor to a file of its own, [pictures, ...]; use it through `tensor_files`."""

    def __init__(self, folder: Path, expected: int, earlier: Iterable[str]) -> None:
        self._folder = folder
        self._expected = expected
        self._earlier = list(earlier)
        self._files: dict[tuple[str, str, int], _File] = {}
        self._numbers: dict[str, int] = {}
        self._left_out: dict[tuple[str, str, int], None] = {}
        self._num_bytes = 0

    @property
    def left_out(self) -> list[str]:
        """Layers with a tensor that has no row for each picture, which is not written."""
        return list(dict.fromkeys(layer for layer, _, _ in self._left_out))

    def add(self, recorded: Recorded) -> None:
        """Writes one batch of one tensor behind those before it.

        Raises:
            InspectionError: It has another shape than before, or all of them will not fit onto the disk.
        """
        key = (recorded.layer, recorded.part, recorded.place)
        if not recorded.is_by_picture:
            self._left_out.setdefault(key)
        if key in self._left_out:
            return
        values = _array(recorded.tensor)
        file = self._files.get(key)
        if file is None:
            file = self._files[key] = self._begun(recorded, values)
        if values.shape[1:] != file.shape:
            shapes = " and ".join("×".join(map(str, shape)) for shape in (values.shape[1:], file.shape))
            raise InspectionError(
                f"The {recorded.part} of {recorded.layer} have another shape in some batches, {shapes}, "
                "so they are no one array.",
                hint="Name other layers with --layers.",
            )
        with self._temporary(file).open("ab") as opened:
            opened.write(np.ascontiguousarray(values).data)
        file.rows += len(values)

    def _begun(self, recorded: Recorded, values: npt.NDArray[Any]) -> _File:
        number = self._numbers.setdefault(recorded.layer, len(self._numbers))
        part = "" if recorded.part == "outputs" else f"-{recorded.part}"
        place = f"-{recorded.place}" if recorded.place else ""
        name = f"{number:02d}-{layer_words(recorded.layer)}{part}{place}.npy"
        if (self._folder / name).is_dir():
            raise InspectionError(f"{self._folder / name} is a folder.", hint="Name another one with --out.")
        self._require_room(values.nbytes // len(values) * self._expected)
        file = _File(name, recorded.layer, recorded.part, values.dtype, values.shape[1:])
        with self._temporary(file).open("wb") as opened:
            np.lib.format.write_array_header_1_0(opened, file.header())
        return file

    def _require_room(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        free = shutil.disk_usage(self._folder).free
        if self._num_bytes > free:
            raise InspectionError(
                f"What these layers return for {self._expected:,} pictures takes more than {self._num_bytes / 1e9:.1f} "
                f"GB, and {self._folder} has {free / 1e9:.1f} GB left.",
                hint="Name fewer layers with --layers, or fewer pictures with --pictures.",
            )

    def _temporary(self, file: _File) -> Path:
        return self._folder / f".tmp-{os.getpid()}-{file.name}"

    def finish(self, about: Mapping[str, object], num_pictures: int) -> list[dict[str, object]]:
        """Gives all files with a row for each picture their names, in place of an earlier index's; returns its entries.

        Args:
            about: What the index says beside the entries.
            num_pictures: That ran through the network.
        """
        entries: list[dict[str, object]] = []
        for key, file in self._files.items():
            if file.rows != num_pictures:
                # A layer that some batches did not call.
                self._left_out.setdefault(key)
        files = [file for key, file in self._files.items() if key not in self._left_out]
        for file in files:
            with self._temporary(file).open("r+b") as opened:
                # numpy leaves room in the header for the first axis to grow.
                np.lib.format.write_array_header_1_0(opened, file.header())
            shape = [file.rows, *file.shape]
            entry: dict[str, object] = {"layer": file.layer, "part": file.part, "file": file.name, "shape": shape}
            entries.append(entry | {"dtype": str(file.dtype)})
        index = self._folder / INDEX
        temporary = self._folder / f".tmp-{os.getpid()}-{INDEX}"
        temporary.write_text(json.dumps(dict(about) | {"tensors": entries}, indent=2, ensure_ascii=False) + "\n")
        index.unlink(missing_ok=True)
        for name in self._earlier:
            (self._folder / name).unlink(missing_ok=True)
        for file in files:
            self._temporary(file).replace(self._folder / file.name)
        temporary.replace(index)
        return entries

    def discard(self) -> None:
        """Removes what has not got its name."""
        for path in self._folder.glob(f".tmp-{os.getpid()}-*"):
            path.unlink(missing_ok=True)


@contextmanager
def tensor_files(folder: Path, expected: int) -> Iterator[TensorFiles]:
    """A writer for about so many pictures; after an error or a stop nothing of it is left, and what was there stays.

    Raises:
        InspectionError: The folder has an `index.json` that is none of ours.
    """
    earlier = _listed(folder / INDEX)
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    files = TensorFiles(folder, expected, earlier)
    try:
        yield files
    finally:
        files.discard()
        for place in missing:
            # Where something was written, it stays.
            with suppress(OSError):
                place.rmdir()


def first_in_two(batches: Iterable[Any]) -> Iterator[Any]:
    """Batches of tensors, or pairs of them, the first cut into two of different sizes.

    An axis that is as long as each batch by chance does not pass for that of the pictures then.
    """
    rest = iter(batches)
    for first in rest:
        parts = first if isinstance(first, tuple) else (first,)
        cut = (len(parts[0]) - 1) // 2
        for place in (slice(cut), slice(cut, None)) if cut else (slice(None),):
            yield tuple(part[place] for part in parts) if isinstance(first, tuple) else first[place]
        yield from rest


def _listed(index: Path) -> list[str]:
    """The arrays in an index of an earlier run; none where there is no index."""
    if not os.path.lexists(index):
        return []
    try:
        found = json.loads(index.read_bytes())
        if not {"network", "bundle", "pictures"} <= set(found):
            raise ValueError
        names = [str(entry["file"]) for entry in found["tensors"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InspectionError(
            f"{index} is there, and is no index of layers' values that a new one could replace.",
            hint="Name another folder with --out.",
        ) from error
    return [name for name in names if name.endswith(".npy") and Path(name).name == name]


def _sweep(folder: Path) -> None:
    """Removes what a process left that was killed."""
    for path in folder.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match is not None and not is_running(int(match[1])):
            path.unlink(missing_ok=True)


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    """The values as numpy has them; float32 for those of bfloat16 and less, which it has not."""
    values = tensor.detach().cpu()
    try:
        return values.numpy()
    except TypeError:
        return values.float().numpy()
