"""What layers return for many pictures, written to .npy files batch by batch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cutaway.cli.file_names import layer_words
from cutaway.errors import InspectionError

if TYPE_CHECKING:
    from torch import Tensor

    from cutaway.inspect.layer_statistics import Recorded

INDEX = "index.json"


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

    def __init__(self, folder: Path, expected: int) -> None:
        self._folder = folder
        self._expected = expected
        self._files: dict[tuple[str, str, int], _File] = {}
        self._numbers: dict[str, int] = {}
        self._left_out: dict[str, None] = {}
        self._num_bytes = 0

    @property
    def left_out(self) -> list[str]:
        """Layers with a tensor that has no row for each picture, which is not written."""
        return list(self._left_out)

    def add(self, recorded: Recorded) -> None:
        """Writes one batch of one tensor behind those before it.

        Raises:
            InspectionError: It has another shape than before, or all of them will not fit onto the disk.
        """
        if not recorded.is_by_picture:
            self._left_out.setdefault(recorded.layer)
            return
        values = _array(recorded.tensor)
        key = (recorded.layer, recorded.part, recorded.place)
        file = self._files.get(key)
        if file is None:
            file = self._files[key] = self._begun(recorded, values)
        if values.shape[1:] != file.shape:
            raise InspectionError(
                f"What {recorded.layer} returns has another shape in some batches, "
                f"{'×'.join(map(str, values.shape[1:]))} and {'×'.join(map(str, file.shape))}, so it is no one array.",
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

    def finish(self, about: Mapping[str, object]) -> list[dict[str, object]]:
        """Gives all files their names, and writes an index of them; returns its entries."""
        entries: list[dict[str, object]] = []
        for file in self._files.values():
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
        for file in self._files.values():
            self._temporary(file).replace(self._folder / file.name)
        temporary.replace(index)
        return entries

    def discard(self) -> None:
        """Removes what has not got its name."""
        for path in self._folder.glob(f".tmp-{os.getpid()}-*"):
            path.unlink(missing_ok=True)


@contextmanager
def tensor_files(folder: Path, expected: int) -> Iterator[TensorFiles]:
    """A writer for about so many pictures; after an error or a stop nothing of it is left, and what was there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    files = TensorFiles(folder, expected)
    try:
        yield files
    finally:
        files.discard()


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    """The values as numpy has them; float32 for those of bfloat16 and less, which it has not."""
    values = tensor.detach().cpu()
    try:
        return values.numpy()
    except TypeError:
        return values.float().numpy()
