"""Puts a file, or a folder of files, in its place whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cutaway.durable import sync_directory, write_synced
from cutaway.errors import ExportError
from cutaway.processes import is_running

__all__ = ["check_place", "check_writable", "replace_folder", "said_in_words", "whole_or_nothing"]

_ABANDONED_AFTER_S = 24 * 3600.0


@contextmanager
def whole_or_nothing(out: Path, data: bytes, beside: Mapping[str, Sequence[bytes]] | None = None) -> Iterator[Path]:
    """Writes beside `out` under a temporary name, and gives it its name when the block ends without an error.

    After an error or an interruption nothing is left behind, and a file that was there before is still there. What a
    killed process left behind, the next to write the same file removes. On file systems where renaming is not atomic
    (some network shares) a reader may see neither for a moment.

    Two files cannot take their names in one step: those beside it do so first. Whoever is killed between, over an
    earlier pair, leaves one that readers refuse by its hash.

    Args:
        out: Where the file goes; its folder is made where missing.
        data: The whole content.
        beside: Files that belong to it, name to content in parts; they get their names with it.

    Yields:
        The temporary path, written and flushed to disk, for whoever must check it first; with the files beside it.

    Raises:
        ExportError: The file cannot be written.
    """
    _refuse_a_folder(out)
    # An .onnx ending, because some readers go by it; a leading dot, because nobody should find it.
    temporary = _temporary(out)
    with said_in_words(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
    try:
        if not beside:
            with said_in_words(out):
                write_synced(temporary, data)
            yield temporary
            with said_in_words(out):
                temporary.replace(out)
        else:
            # In a folder of their own they have their final names, by which one finds the other.
            with said_in_words(out):
                temporary.mkdir()
                for name, parts in {**beside, out.name: [data]}.items():
                    write_synced(temporary / name, *parts)
            yield temporary / out.name
            with said_in_words(out):
                for name in (*beside, out.name):
                    (temporary / name).replace(out.parent / name)
        with said_in_words(out):
            sync_directory(out.parent)
    finally:
        _remove(temporary)


def check_place(out: Path) -> None:
    """Refuses, before any work is done, a place that `whole_or_nothing` would refuse after it.

    Raises:
        ExportError: No file can be written there.
    """
    _refuse_a_folder(out)
    check_writable(out)


def check_writable(out: Path, option: str = "--out") -> None:
    """Refuses, before any work is done, a place where neither a file nor a folder can be made.

    Args:
        out: Of a file or folder, which may be there.
        option: By which the person named it, for the hint.

    Raises:
        ExportError: So it is.
    """
    with said_in_words(out, option):
        nearest = next(folder for folder in out.absolute().parents if os.path.lexists(folder))
        probe = _temporary(nearest / out.name)
        probe.touch()
        probe.unlink()


def replace_folder(folder: Path, contents: Mapping[str, bytes], option: str = "--out") -> None:
    """Writes a folder under a temporary name, and puts it in the place of an earlier one, which is removed.

    After an error or an interruption the earlier folder is still there. A folder cannot be renamed over another, so
    whoever is killed between two renames leaves neither, and the next to write it removes what is left of both.

    Args:
        folder: Where it goes; its parents are made. All that an earlier one holds is removed with it.
        contents: File name, with `/` for folders within, to content.
        option: By which the person named it, for the hint.

    Raises:
        ExportError: It cannot be written.
    """
    temporary, earlier = _temporary(folder), _temporary(folder)
    try:
        with said_in_words(folder, option):
            folder.parent.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
            temporary.mkdir()
            for name, content in contents.items():
                path = temporary / name
                path.parent.mkdir(parents=True, exist_ok=True)
                write_synced(path, content)
            for within in (temporary, *filter(Path.is_dir, temporary.rglob("*"))):
                sync_directory(within)
            if folder.exists():
                folder.rename(earlier)
            try:
                temporary.rename(folder)
            except BaseException:
                if earlier.exists():
                    earlier.rename(folder)
                raise
            sync_directory(folder.parent)
    finally:
        _remove(temporary)
        _remove(earlier)


def _refuse_a_folder(out: Path) -> None:
    with said_in_words(out):
        is_folder = out.is_dir()
    if is_folder:
        raise ExportError(f"{out} is a folder.", hint="Give the name of a file: --out model.onnx.")


def _temporary(out: Path) -> Path:
    """A new name beside `out`, which `_sweep` knows."""
    return out.parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{out.name}"


def _remove(temporary: Path) -> None:
    """A file, or the folder of a pair; where nothing was made nothing is asked of a disk that may be read-only."""
    if not os.path.lexists(temporary):
        return
    if temporary.is_dir() and not temporary.is_symlink():
        shutil.rmtree(temporary)
    else:
        temporary.unlink(missing_ok=True)


def _sweep(out: Path) -> None:
    """Removes temporary files of `out` whose writer is dead, or that are too old to have a living one."""
    # Earlier versions left the process out of the name.
    pattern = re.compile(r"\.tmp-(?:(\d{1,9})-)?[0-9a-f]{8}-" + re.escape(out.name))
    for path in out.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        is_dead = match[1] is not None and not is_running(int(match[1]))
        try:
            if is_dead or time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
                _remove(path)
        except (FileNotFoundError, PermissionError):  # another writer was quicker, or it is somebody else's
            continue


@contextmanager
def said_in_words(out: Path, option: str = "--out") -> Iterator[None]:
    """Makes an `ExportError` of what the system says while `out` is written or looked at."""
    try:
        yield
    except OSError as error:
        hint = f"Free some space, or give another place with {option}."
        raise ExportError(f"{out} cannot be written: {error.strerror or error}.", hint=hint) from error
