"""Predictions from a server that runs somewhere already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cutaway.cli.pictures import Decoded
from cutaway.cli.terminal import bars
from cutaway.errors import ImageError, SettingsError
from cutaway.progress import Track

if TYPE_CHECKING:
    from cutaway.serve.answers import PictureAnswer
    from cutaway.serve.client import Client

_MOST_BYTES = 16 * 2**20
_ABOUT_THE_PICTURES = (413, 422)


def open_client(url: str, key_file: Path | None) -> Client:
    """A client of the server, with the first key of the file.

    Raises:
        CutawayError: The address is none, or the file holds no key.
    """
    from cutaway.serve.client import Client
    from cutaway.serve.keys import read_keys

    keys = [] if key_file is None else read_keys(key_file)
    if key_file is not None and not keys:
        raise SettingsError(f"There is no key in {key_file}.", hint="Write one in a line.")
    return Client(url, key=keys[0] if keys else None)


def remote_answers(
    client: Client, files: Sequence[Path], top_k: int, broken: list[Decoded], *, at_a_time: int, track: Track = bars
) -> Iterator[tuple[int, PictureAnswer]]:
    """Index of each file and the server's answer for it, behind a bar; what it cannot use goes among `broken`."""
    chunk: list[tuple[int, Path]] = []
    size = 0
    for numbered in track(list(enumerate(files)), "classifying"):
        own_size = _size(numbered[1])
        if chunk and (len(chunk) == at_a_time or size + own_size > _MOST_BYTES):
            yield from _ask(client, chunk, top_k, broken)
            chunk, size = [], 0
        chunk.append(numbered)
        size += own_size
    if chunk:
        yield from _ask(client, chunk, top_k, broken)


def _ask(
    client: Client, chunk: Sequence[tuple[int, Path]], top_k: int, broken: list[Decoded]
) -> Iterator[tuple[int, PictureAnswer]]:
    from cutaway.serve.client import RefusedError

    try:
        answers = client.classify([file for _, file in chunk], top_k=top_k)
    except (ImageError, RefusedError) as error:
        if isinstance(error, RefusedError) and error.status not in _ABOUT_THE_PICTURES:
            raise
        if len(chunk) > 1:  # one of them spoils the request for all
            for each in chunk:
                yield from _ask(client, [each], top_k, broken)
        else:
            ((index, file),) = chunk
            broken.append(Decoded(file, index, None, ImageError(error.message, hint=error.hint)))
        return
    yield from zip((index for index, _ in chunk), answers, strict=True)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # told where it is read
        return 0
