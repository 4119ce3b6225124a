"""A bundle on disk: written whole or not at all, and read only if every byte is what was written.

The order of a write is what makes it safe against a crash at any point: files into a directory under a temporary
name, each synced; the manifest last; the directory synced; one rename to the final name; the parent synced. Until the
rename no reader looks at it, and after it everything that it names is on disk.

Why that also outlives a loss of power, after which anything not synced may be missing, cut short, filled with rubbish,
or there before what was done earlier: the final name can only appear through the rename, which is asked for when every
byte under it and every name in it is synced. So under a final name there is a whole bundle or nothing, and from the
parent's sync on it is a whole bundle. Older bundles are removed after that only (`Run.prune`), and each is renamed, and
the rename synced, before its first file goes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from cutaway.checkpoints.manifest import FileEntry, Manifest, parse_manifest
from cutaway.checkpoints.tensor_files import check_hash, load_tensors, shapes_in, write_tensors
from cutaway.durable import sync_directory, write_synced
from cutaway.errors import BundleError, DamagedBundleError

MANIFEST = "manifest.json"
TEMPORARY = ".tmp-"
_LARGEST_MANIFEST = 64 * 2**20


def write_bundle(path: Path, manifest: Manifest, tensors: Mapping[str, Mapping[str, Tensor]]) -> Manifest:
    """Writes a bundle that is there completely once it is there at all.

    Args:
        path: The bundle's directory, which must not exist yet.
        manifest: Its `files` are filled in here.
        tensors: File name without suffix -> tensor name -> tensor, on the CPU.

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
        # Without its parents: where somebody removed the run, it is not for a save to bring half of it back.
        temporary.mkdir()
        files = {f"{name}.safetensors": group for name, group in tensors.items()}
        with ThreadPoolExecutor(2) as writers:
            entries = writers.map(lambda name: write_tensors(temporary / name, files[name]), files)
            manifest = manifest.model_copy(update={"files": dict(zip(files, entries, strict=True))})
        write_synced(temporary / MANIFEST, manifest.to_json())
        sync_directory(temporary)
        temporary.rename(path)
        sync_directory(path.parent)
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
            raise DamagedBundleError(f"{path} has no {MANIFEST}, so it is not a whole bundle.")
        if file.stat().st_size > _LARGEST_MANIFEST:
            raise DamagedBundleError(f"The manifest of {path} is larger than any that cutaway writes.")
        manifest = parse_manifest(file.read_bytes(), str(path))
        found = {entry.name for entry in path.iterdir()} - {MANIFEST}
        for name, entry in manifest.files.items():
            _check_size(path / name, entry)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}.") from error
    extra = sorted(found - set(manifest.files))
    if extra:
        raise DamagedBundleError(f"{path} holds a file that its manifest does not name: {extra[0]}.")
    return manifest


def verify_bundle(path: Path) -> Manifest:
    """Reads every byte of a bundle and compares the hashes.

    Raises:
        BundleError: The first thing that is wrong.
    """
    manifest = read_manifest(path)
    with ThreadPoolExecutor(2) as readers:
        # Hashing lets go of the interpreter. The first error in the order of the files is the one that is told.
        list(readers.map(lambda name: check_hash(path / name, manifest.files[name]), manifest.files))
    return manifest


def read_tensors(path: Path, manifest: Manifest, name: str, *, verified: bool = False) -> dict[str, Tensor]:
    """The tensors of one of a bundle's files, on the CPU, after its hash was compared.

    Args:
        path: The bundle.
        manifest: What it says of itself.
        name: The file's name without suffix.
        verified: `verify_bundle` compared the hash already.

    Raises:
        BundleError: The file is not part of the bundle, or damaged.
    """
    file = path / f"{name}.safetensors"
    if file.name not in manifest.files:
        raise DamagedBundleError(f"{path} holds no {file.name}.")
    return load_tensors(file, manifest.files[file.name], verified=verified)


def tensor_shapes(path: Path, name: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (data type, shape) of one of a bundle's files, from its header alone."""
    return shapes_in(path / f"{name}.safetensors")


def _check_size(file: Path, entry: FileEntry) -> None:
    if file.is_symlink():
        raise DamagedBundleError(f"{file} is a symbolic link, and a bundle holds its own files.")
    if not file.is_file():
        raise DamagedBundleError(f"{file.parent} lacks {file.name}, which its manifest names.")
    size = file.stat().st_size
    if size != entry.bytes:
        raise DamagedBundleError(
            f"{file} has {size} bytes where its manifest says {entry.bytes}.", hint="The bundle is damaged."
        )
