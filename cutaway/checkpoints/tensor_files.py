"""Safetensors files, hashed in the same pass that writes them, and read only if the hash is right.

The format (huggingface/safetensors, README, "Format"): eight bytes with the header's length, a JSON header of names,
types, shapes and offsets, then the tensors one after the other. It is written here because the library builds the
whole file in memory first, and the hash would take a second pass over it; reading is left to the library.

The hash is BLAKE3 (O'Connor et al., 2020), as cryptographic as SHA-256 and several times as fast, so that it costs a
save or a load next to nothing. Bundles from before have SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
from blake3 import blake3
from torch import Tensor

from cutaway.checkpoints.manifest import FileEntry
from cutaway.durable import sync as sync
from cutaway.errors import BundleError, DamagedBundleError

TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_CHUNK = 8 * 2**20
# So many chunks may be written before they are hashed: copies that were made of them stay in memory until then.
_AHEAD = 16
# Read at a time to be hashed: small enough to stay in the processor's cache.
_READ = 2**20
# By number, since BLAKE3's own choice is one pool for the whole process, whose threads a forked one would wait for.
_HASHERS = 4


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> FileEntry:
    """Writes a new safetensors file, and returns once it is on disk.

    Args:
        file: Must not exist yet.
        tensors: On the CPU, of any memory format; safetensors stores them contiguous.

    Returns:
        The file's hash and size.

    Raises:
        OSError: The disk refuses.
    """
    digest = blake3()
    written = 0
    # Hashing, writing and syncing all let go of the interpreter, so the disk works while the hash is still on its way.
    with file.open("xb") as opened, ThreadPoolExecutor(1) as hasher:
        hashing: deque[Future[None]] = deque()
        for chunk in _chunks(tensors):
            hashing.append(hasher.submit(_update, digest, chunk))
            if len(hashing) > _AHEAD:
                hashing.popleft().result()
            opened.write(chunk)
            written += len(chunk)
        sync(opened.fileno(), opened.flush)
        for hashed in hashing:
            hashed.result()
    return FileEntry(blake3=digest.hexdigest(), bytes=written)


def load_tensors(file: Path, entry: FileEntry, *, verified: bool = False) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU.

    Args:
        file: The file.
        entry: What it must be.
        verified: Its hash was compared already.

    Raises:
        BundleError: It is not what was written, or no safetensors file.
    """
    if not verified:
        check_hash(file, entry)
    try:
        return safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError) as error:
        raise DamagedBundleError(
            f"{file} is not a safetensors file: {error}.", hint="The bundle is damaged."
        ) from error


def shapes_in(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (data type, shape) from a file's header, without reading the tensors.

    Raises:
        BundleError: It is no safetensors file; the library refuses headers over 100 MB.
    """
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118 - not a mapping
            return {key: (part.get_dtype(), tuple(part.get_shape())) for key, part in slices.items()}
    except (safetensors.SafetensorError, OSError) as error:
        raise DamagedBundleError(
            f"{file} is not a safetensors file: {error}.", hint="The bundle is damaged."
        ) from error


def check_hash(file: Path, entry: FileEntry) -> None:
    """Reads every byte.

    Raises:
        BundleError: The bytes are not those that the entry is about.
    """
    try:
        digest = _digest(file, "blake3" if entry.blake3 else "sha256")
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror or error}.") from error
    if digest != entry.digest:
        raise DamagedBundleError(f"{file} is not what was written: its hash differs.", hint="The bundle is damaged.")


def _digest(file: Path, kind: Literal["blake3", "sha256"]) -> str:
    """Of the bytes as they are read. A mapped file would be faster only until the disk fails or the file is cut short
    meanwhile: then the process dies of SIGBUS, where reading raises an error or gives another hash.
    """
    if kind == "sha256":
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    digest = blake3(max_threads=_HASHERS)
    buffer = memoryview(bytearray(_READ))
    with file.open("rb", buffering=0) as opened:
        while length := opened.readinto(buffer):
            digest.update(buffer[:length])
    return str(digest.hexdigest())


def _update(digest: blake3, chunk: bytes | memoryview) -> None:
    digest.update(chunk)


def _chunks(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The file's bytes in order: wide types first, so that each tensor is aligned, then by name."""
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {}
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for name in names:
        tensor = tensors[name]
        if tensor.numel():
            data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
            for at in range(0, len(data), _CHUNK):
                yield data[at : at + _CHUNK]
