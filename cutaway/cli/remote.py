"""Predictions from a server that runs somewhere already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cutaway.cli.pictures import Decoded
from cutaway.cli.terminal import bars
from cutaway.errors import ImageError, ServingError, SettingsError
from cutaway.progress import Track

if TYPE_CHECKING:
    from cutaway.serve.answers import PictureAnswer
    from cutaway.serve.client import Client

_MOST_BYTES = 16 * 2**20
_ABOUT_THE_PICTURES = (413, 422)
_KEY_NEEDED = 401


def open_client(url: str, key_file: Path | None, certificates: Path | None = None) -> Client:
    """A client of the server, with the first key of the file, that trusts its certificate or those of the other file.

    Raises:
        CutawayError: The address is none, or a file holds no key or no certificate.
    """
    from cutaway.serve.client import Client
    from cutaway.serve.keys import read_keys

    keys = [] if key_file is None else read_keys(key_file)
    if key_file is not None and not keys:
        raise SettingsError(f"There is no key in {key_file}.", hint="Write one in a line.")
    return Client(url, key=keys[0] if keys else None, certificates=certificates)


def remote_answers(
    client: Client,
    files: Sequence[Path],
    top_k: int,
    broken: list[Decoded],
    *,
    at_a_time: int,
    model: str | None = None,
    track: Track = bars,
) -> Iterator[tuple[int, PictureAnswer]]:
    """Index of each file and the server's answer for it, behind a bar; what it cannot use goes among `broken`."""
    chunk: list[tuple[int, Path]] = []
    size = 0
    for numbered in track(list(enumerate(files)), "classifying"):
        own_size = _size(numbered[1])
        if chunk and (len(chunk) == at_a_time or size + own_size > _MOST_BYTES):
            yield from _ask(client, chunk, top_k, broken, model)
            chunk, size = [], 0
        chunk.append(numbered)
        size += own_size
    if chunk:
        yield from _ask(client, chunk, top_k, broken, model)


def _ask(
    client: Client, chunk: Sequence[tuple[int, Path]], top_k: int, broken: list[Decoded], model: str | None
) -> Iterator[tuple[int, PictureAnswer]]:
    from cutaway.serve.client import RefusedError

    try:
        answers = client.classify([file for _, file in chunk], top_k=top_k, model=model)
    except (ImageError, RefusedError) as error:
        if isinstance(error, RefusedError) and error.status not in _ABOUT_THE_PICTURES:
            if error.status == _KEY_NEEDED:
                raise ServingError(
                    f"{client.url} asks for a key.", hint="Give one of its keys by --api-key-file FILE."
                ) from error
            raise
        if len(chunk) > 1:  # one of them spoils the request for all
            for each in chunk:
                yield from _ask(client, [each], top_k, broken, model)
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
