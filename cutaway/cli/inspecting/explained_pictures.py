"""The pictures that a person names to have them explained, and the classes to explain them for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cutaway.cli import complain
from cutaway.cli.pictures import Decoded, decoded, names_of, picture_files, refuse_broken, refuse_overwriting
from cutaway.cli.terminal import bars
from cutaway.errors import InspectionError
from cutaway.progress import Track
from cutaway.settings.near_names import near_names

if TYPE_CHECKING:
    from cutaway.preprocessing.spec import Pixels

_LISTED = 20


class ExplainedPictures:
    """Files on their way through an explanation: decoded a few at a time, and named in the answer.

    Args:
        images: Files, folders and patterns.
        out: Where something is written under their names.
        at_a_time: How many are decoded together.
        track: Told of each; silent where the work on one of them shows a bar of its own.

    Raises:
        ImageError: A name stands for nothing.
        SettingsError: There is no name, or pictures of a person's own could be written over.
    """

    def __init__(self, images: Sequence[str], out: Path, *, at_a_time: int, track: Track = bars) -> None:
        self._files = picture_files(images)
        self._names = names_of(self._files)
        refuse_overwriting(self._files, self._names, out)
        self._at_a_time = at_a_time
        self._track = track
        self._good: list[Decoded] = []
        self._broken: list[Decoded] = []

    def chunks(self) -> Iterator[dict[str, Pixels]]:
        """Those that can be decoded, by what is written of each, a few at a time: uint8 [H, W, 1 or 3]."""
        for chunk in decoded(self._files, "explaining", at_a_time=self._at_a_time, track=self._track):
            # Without their pixels, which are needed only until the answer is there.
            self._good.extend(replace(found, pixels=None) for found in chunk if found.error is None)
            self._broken.extend(found for found in chunk if found.error is not None)
            yield {self._names[found.index]: found.pixels for found in chunk if found.pixels is not None}

    def entries(self, written: Sequence[Sequence[Mapping[str, object]]]) -> list[dict[str, object]]:
        """What JSON says, in the files' order: of each decoded picture all that was written, of others what is wrong.

        Args:
            written: For each picture of `chunks`, which have passed.
        """
        by_index: dict[int, list[dict[str, object]]] = {
            found.index: [{"picture": str(found.file), **entry} for entry in of_picture]
            for found, of_picture in zip(self._good, written, strict=True)
        }
        by_index |= {found.index: [{"picture": str(found.file), "error": str(found.error)}] for found in self._broken}
        return [entry for index in sorted(by_index) for entry in by_index[index]]

    def refuse_broken(self) -> None:
        """Names each file that could not be decoded, after the answers for the others are out.

        Raises:
            ImageError: There is one.
        """
        refuse_broken(self._broken, len(self._files))


def class_index(classes: Sequence[str], label: str) -> int:
    """The number of a class.

    Raises:
        InspectionError: There is none of that name; the hint tells names like it, also those in other letter case.
    """
    if label in classes:
        return classes.index(label)
    alike = [name for name in classes if name.casefold() == label.casefold()]
    near = alike or near_names(label.casefold(), [name.casefold() for name in classes], 3)
    meant = [name for name in classes if name in near or name.casefold() in near][:3]
    if meant:
        raise InspectionError(f"There is no class '{label}'.", hint=f"Did you mean {' or '.join(map(repr, meant))}?")
    more = f", and {len(classes) - _LISTED} more" if len(classes) > _LISTED else ""
    raise InspectionError(f"There is no class '{label}'.", hint=f"Classes: {', '.join(classes[:_LISTED])}{more}.")


def tell_alone(entries: Iterable[Mapping[str, object]]) -> None:
    """Says so where the network had to be given one picture at a time, which its answers in batches are not."""
    why = next((str(entry["alone"]) for entry in entries if "alone" in entry), None)
    if why is not None:
        complain(f"Each picture went through the network by itself, since {why}.")


def file_words(label: str, index: int, probability: float) -> str:
    """What a file's name says of the class that it explains: `Ankle-boot-93` at 93 %.

    A name that a stranger chose may be no file name: what is neither letter nor digit becomes a hyphen, and a name
    with neither is `class-` and its number.
    """
    words = "-".join("".join(char if char.isalnum() else " " for char in label).split())
    # A file's name may have 255 bytes, and the picture's own stands before this.
    words = words.encode()[:48].decode(errors="ignore").rstrip("-")
    return f"{words or f'class-{index}'}-{round(100 * probability)}"
