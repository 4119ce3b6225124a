"""Pictures listed in a CSV file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from cutaway.datasets.dataset import Dataset
from cutaway.datasets.naming import check_classes, class_named, split_named
from cutaway.datasets.options import Options
from cutaway.datasets.pictures import Picture, assemble, named
from cutaway.errors import DataError
from cutaway.progress import Track

_OWN = ("path", "label", "split")
_COLUMNS = "The first line names the columns: path,label or path,label,split."


def load_csv(file: Path, *, options: Options, track: Track) -> Dataset:
    """A CSV file with the columns `path` (relative to the file, or absolute), `label` and, if wanted, `split`.

    Other columns are kept for each picture, in small letters, and so is the `folder` that it lies in.

    Args:
        file: UTF-8, with or without a byte order mark; commas and quotes as in RFC 4180.
        options: How it is split, and what is done about files that are missing or cannot be decoded.
        track: Shows progress.

    Raises:
        DataError: If the list is not of this form, or its pictures cannot be used.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{str(file)!r} cannot be read: {error.strerror or error}.", hint="Give it as csv:FILE."
        ) from error
    except ValueError as error:
        raise DataError(f"{str(file)!r} is not UTF-8 text.", hint="Save it as CSV in UTF-8.") from error
    try:
        pictures = _pictures(file, text)
    except csv.Error as error:
        raise DataError(f"{str(file)!r} is no CSV file: {error}.", hint=_COLUMNS) from error
    check_classes(picture.label for picture in pictures)
    name = f"csv:{file.name}"
    source = f"{len(pictures):,} pictures listed in {file.name}"
    return assemble(name, source, pictures, options=options, track=track)


def _pictures(file: Path, text: str) -> list[Picture]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = [name.strip().casefold() for name in next(rows, [])]
    for column in ("path", "label"):
        if header.count(column) != 1:
            problem = "twice" if column in header else f"not among {', '.join(header) or 'none'}"
            raise DataError(f"{str(file)!r} needs one column {column!r}; it is {problem}.", hint=_COLUMNS)
    pictures: list[Picture] = []
    lines: dict[str, int] = {}
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        line = rows.line_num
        if len(row) != len(header):
            raise DataError(
                f"{str(file)!r}, line {line}: {len(row)} cells, but {len(header)} columns.",
                hint='Put a path or label with a comma between double quotes: "like, this".',
            )
        cells = dict(zip(header, row, strict=True))
        key, label = _key(cells["path"]), class_named(cells["label"])
        if not key or not label:
            raise DataError(f"{str(file)!r}, line {line}: the {'label' if key else 'path'} is empty.")
        if key in lines:
            raise DataError(
                f"{str(file)!r}, line {line}: {key!r} was already listed in line {lines[key]}.",
                hint="List each picture once, or it may be trained on and tested on.",
            )
        lines[key] = line
        others = {name: cell.strip() for name, cell in cells.items() if name not in _OWN}
        columns = {"folder": key.rpartition("/")[0] or "."} | others
        pictures.append(Picture(file.parent / key, key, label, _split(file, line, cells.get("split")), columns))
    if not pictures:
        raise DataError(f"{str(file)!r} lists no pictures.", hint=_COLUMNS)
    split_lines = [picture.key for picture in pictures if picture.split is None]
    if "split" in header and 0 < len(split_lines) < len(pictures):
        raise DataError(
            f"{str(file)!r} gives no split for {named(split_lines)}.", hint="Fill the column in, or leave it out."
        )
    return pictures


def _key(cell: str) -> str:
    """One spelling of a path, so that the same picture is not taken twice."""
    return Path(cell.strip()).as_posix() if cell.strip() else ""


def _split(file: Path, line: int, cell: str | None) -> str | None:
    if cell is None or not cell.strip():
        return None
    split = split_named(cell.strip())
    if split is None:
        raise DataError(
            f"{str(file)!r}, line {line}: there is no split {cell.strip()!r}.", hint="Use train, valid or test."
        )
    return split
