"""Picture files that a person names: found, and decoded a few at a time."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cutaway.cli import complain
from cutaway.cli.file_names import stem_of
from cutaway.cli.terminal import bars
from cutaway.errors import ImageError, SettingsError
from cutaway.images import EXTENSIONS, Pixels, decode
from cutaway.progress import Track

_MOST_PIXELS = 100_000_000


@dataclass(frozen=True)
class Decoded:
    """A file's picture, or what is wrong with it.

    Attributes:
        file: As it was named.
        index: Of the file among all.
        pixels: uint8 [H, W, 3]; None where it cannot be decoded.
        error: Why it cannot; None where it can.
    """

    file: Path
    index: int
    pixels: Pixels | None
    error: ImageError | None


def picture_files(names: Iterable[str]) -> list[Path]:
    """The files behind names: a file is itself, a folder its pictures at any depth, a pattern whatever it matches.

    Raises:
        SettingsError: There is no name.
        ImageError: A name stands for nothing.
    """
    names = list(names)
    if not names:
        raise SettingsError("No pictures are named.", hint="Name files, folders of pictures, or patterns.")
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())
        elif path.exists():
            found = [path]
        else:
            found = sorted(Path(match) for match in glob.glob(name, recursive=True))  # noqa: PTH207 - may be absolute
        if not found:
            raise ImageError(f"There is no picture at {name}.", hint="Name a file, a folder of pictures, or a pattern.")
        files.extend(found)
    return files


def names_of(files: Sequence[Path]) -> list[str]:
    """What is written of each file: its path from the folder that holds them all, numbered where two are the same.

    Its last part leaves room behind it for 75 bytes.
    """
    places = [Path(os.path.abspath(file)) for file in files]  # noqa: PTH100 - links stay as they were named
    above = os.path.commonpath([place.parent for place in places])
    taken: set[str] = set()
    names: list[str] = []
    for place in places:
        own = str(place.relative_to(above).parent / stem_of(place.name))
        name, number = own, 1
        while name in taken:
            number += 1
            name = f"{own}-{number}"
        taken.add(name)
        names.append(name)
    return names


def refuse_overwriting(files: Sequence[Path], names: Sequence[str], out: Path) -> None:
    """Nothing is written over a picture that is read, nor into its folder, where its neighbours have names like it.

    Args:
        files: The pictures that are read.
        names: What `names_of` calls them, or `""` where it is written into the folder itself.
        out: Where something is written under these names, with other suffixes or as folders.

    Raises:
        SettingsError: A person's own pictures could be replaced.
    """
    # By number and not by name, since links and letter cases give one file several names.
    own = {_number(file) for file in files} | {_number(file.parent) for file in files}
    for name in names:
        for target in (out / f"{name}.png", out / f"{name}.npy", (out / f"{name}.png").parent, out / name):
            if target.exists() and _number(target) in own:
                raise SettingsError(
                    f"What is written to {out} could replace pictures of yours, since some that are read lie there.",
                    hint="Name another folder with --out, one that holds none of the pictures.",
                )


def decoded(files: Sequence[Path], description: str, *, at_a_time: int, track: Track = bars) -> Iterator[list[Decoded]]:
    """Decodes files a few at a time, so that thousands of them or very large ones fit into memory, behind a bar."""
    chunk: list[Decoded] = []
    num_pixels = 0
    for index, file in enumerate(track(files, description)):
        found = _decoded(file, index)
        chunk.append(found)
        num_pixels += 0 if found.pixels is None else found.pixels.shape[0] * found.pixels.shape[1]
        if len(chunk) == at_a_time or num_pixels >= _MOST_PIXELS:
            yield chunk
            chunk, num_pixels = [], 0
    if chunk:
        yield chunk


def refuse_broken(broken: Sequence[Decoded], num_files: int) -> None:
    """Names each file that could not be decoded, after the answers for the others are out.

    Raises:
        ImageError: There is one.
    """
    for found in broken:
        assert found.error is not None
        complain(f"{found.file}: {found.error.message}", found.error.hint)
    if broken:
        raise ImageError(f"{len(broken)} of {num_files} pictures could not be decoded.")


def _number(place: Path) -> tuple[int, int]:
    found = place.stat()
    return found.st_dev, found.st_ino


def _decoded(file: Path, index: int) -> Decoded:
    try:
        return Decoded(file, index, decode(file), None)
    except ImageError as error:
        return Decoded(file, index, None, error)
