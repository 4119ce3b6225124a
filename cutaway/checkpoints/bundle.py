"""A bundle on disk: written whole or not at all, and read only if every byte is what was written.

The order of a write is what makes it safe against a crash at any point: files into a directory under a temporary
name, each synced; the manifest last; the directory synced; one rename to the final name; the parent synced. Until the
rename no reader looks at it, and after it everything that it names is on disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from cutaway.checkpoints.manifest import FileEntry, Manifest, parse_manifest
from cutaway.errors import BundleError

MANIFEST = "manifest.json"
TEMPORARY = ".tmp-"
_LARGEST_MANIFEST = 64 * 2**20


def write_bundle(path: Path, manifest: Manifest, tensors: Mapping[str, Mapping[str, Tensor]]) -> Manifest:
    """Writes a bundle that is there completely once it is there at all.

    Args:
        path: The bundle's directory, which must not exist yet.
        manifest: Its `files` are filled in here.
        tensors: File name without suffix -> tensor name -> tensor.

    Returns:
        The manifest as written.

    Raises:
        BundleError: The bundle exists already, or the disk refuses.
    """
    if path.exists():
        raise BundleError(f"The bundle {path} exists already, and a bundle is never written over.")
    temporary = path.with_name(TEMPORARY + path.name)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        entries = {}
        for name, group in tensors.items():
            file = temporary / f"{name}.safetensors"
            data = safetensors.torch.save({key: _storable(tensor) for key, tensor in group.items()})
            _write_synced(file, data)
            entries[file.name] = FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        manifest = manifest.model_copy(update={"files": entries})
        _write_synced(temporary / MANIFEST, manifest.to_json())
        _sync_directory(temporary)
        temporary.rename(path)
        _sync_directory(path.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise BundleError(
            f"The bundle {path} cannot be written: {error.strerror or error}.",
            hint="What was saved before is untouched. Make room or choose another --out, and run the command again.",
        ) from error
    return manifest


def read_manifest(path: Path) -> Manifest:
    """Reads a bundle's manifest and checks that its files are there at their sizes, and nothing else is.

    Raises:
        BundleError: Something is missing, too much, or not what the manifest says.
    """
    if not path.is_dir():
        what = "a file" if path.exists() else "not there"
        raise BundleError(f"{path} is {what}; a bundle is a directory.", hint="Name a run or one of its checkpoints.")
    file = path / MANIFEST
    try:
        if file.is_symlink() or not file.is_file():
            raise BundleError(f"{path} has no {MANIFEST}, so it is not a whole bundle.")
        if file.stat().st_size > _LARGEST_MANIFEST:
            raise BundleError(f"The manifest of {path} is larger than any that cutaway writes.")
        manifest = parse_manifest(file.read_bytes(), str(path))
        found = {entry.name for entry in path.iterdir()} - {MANIFEST}
        for name, entry in manifest.files.items():
            _check_size(path / name, entry)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}.") from error
    extra = sorted(found - set(manifest.files))
    if extra:
        raise BundleError(f"{path} holds a file that its manifest does not name: {extra[0]}.")
    return manifest


def verify_bundle(path: Path) -> Manifest:
    """Reads every byte of a bundle and compares the hashes.

    Raises:
        BundleError: The first thing that is wrong.
    """
    manifest = read_manifest(path)
    for name in manifest.files:
        _check_hash(path / name, manifest.files[name])
    return manifest


def read_tensors(path: Path, manifest: Manifest, name: str) -> dict[str, Tensor]:
    """The tensors of one of a bundle's files, on the CPU, after its hash was compared.

    Raises:
        BundleError: The file is not part of the bundle, or damaged.
    """
    file = path / f"{name}.safetensors"
    if file.name not in manifest.files:
        raise BundleError(f"{path} holds no {file.name}.")
    _check_hash(file, manifest.files[file.name])
    try:
        return safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError) as error:
        raise BundleError(f"{file} is not a safetensors file: {error}.", hint="The bundle is damaged.") from error


def tensor_shapes(path: Path, name: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (data type, shape) from a file's header, without reading the tensors."""
    file = path / f"{name}.safetensors"
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
            return {key: (part.get_dtype(), tuple(part.get_shape())) for key, part in slices.items()}
    except (safetensors.SafetensorError, OSError) as error:
        raise BundleError(f"{file} is not a safetensors file: {error}.", hint="The bundle is damaged.") from error


def _storable(tensor: Tensor) -> Tensor:
    """A contiguous copy of its own on the CPU: safetensors stores neither strides nor tensors that share memory."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _check_size(file: Path, entry: FileEntry) -> None:
    if file.is_symlink():
        raise BundleError(f"{file} is a symbolic link, and a bundle holds its own files.")
    if not file.is_file():
        raise BundleError(f"{file.parent} lacks {file.name}, which its manifest names.")
    size = file.stat().st_size
    if size != entry.bytes:
        raise BundleError(
            f"{file} has {size} bytes where its manifest says {entry.bytes}.", hint="The bundle is damaged."
        )


def _check_hash(file: Path, entry: FileEntry) -> None:
    try:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror or error}.") from error
    if digest != entry.sha256:
        raise BundleError(f"{file} is not what was written: its SHA-256 differs.", hint="The bundle is damaged.")


def _write_synced(file: Path, data: bytes) -> None:
    with file.open("xb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
