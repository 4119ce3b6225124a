"""ONNX Runtime Web's files: from a folder that a person names, or from the npm package. None of them is kept here."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cutaway.errors import ExportError

__all__ = ["BUILDS", "RUNTIME_VERSION", "Build", "Runtime", "fetch_runtime", "read_runtime"]

RUNTIME_VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{RUNTIME_VERSION}"
_INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
_FETCH_WITHIN_S = 600
_LARGEST_FILE = 2**27


class Build(NamedTuple):
    """The files of one build, as the package names them."""

    module: str
    glue: str
    wasm: str


BUILDS = {
    "wasm": Build("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    # The newer build `ort.webgpu` cannot take our files: it has no operator that makes float64 of float32.
    "webgpu": Build("ort.min.mjs", "ort-wasm-simd-threaded.jsep.mjs", "ort-wasm-simd-threaded.jsep.wasm"),
}
_HINT = (
    f"Unpack the npm package {PACKAGE} somewhere (`npm pack {PACKAGE}` fetches it), and name that folder with "
    "--web-runtime."
)


@dataclass(frozen=True)
class Runtime:
    """The files that the page needs.

    Attributes:
        version: Of ONNX Runtime Web.
        files: The package's name of each to its content.
    """

    version: str
    files: Mapping[str, bytes] = field(repr=False)


def read_runtime(folder: Path) -> Runtime:
    """Reads the files from an unpacked package, or from its `dist` folder.

    Raises:
        ExportError: They are not all there, or are not ONNX Runtime Web's.
    """
    if not folder.is_dir():
        raise ExportError(f"There is no folder {folder} with ONNX Runtime Web.", hint=_HINT)
    dist = next((path for path in (folder / "dist", folder / "package" / "dist") if path.is_dir()), folder)
    names = _names()
    missing = [name for name in names if not (dist / name).is_file()]
    if missing:
        raise ExportError(f"{dist} has no {missing[0]}, which is a part of ONNX Runtime Web.", hint=_HINT)
    return _runtime({name: (dist / name).read_bytes() for name in names}, str(dist))


def fetch_runtime() -> Runtime:
    """Fetches the package of the version that this cutaway knows by `npm pack`, and checks its hash.

    Raises:
        ExportError: There is no npm, it cannot fetch the package, or what came is something else.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ExportError("ONNX Runtime Web is fetched by npm, and there is no npm here.", hint=_HINT)
    with tempfile.TemporaryDirectory(prefix="cutaway-") as scratch:
        command = [npm, "pack", PACKAGE, "--silent", "--ignore-scripts", "--prefer-offline", "--pack-destination", "."]
        try:
            done = subprocess.run(  # noqa: S603 - npm itself, with words of ours alone
                command, cwd=scratch, capture_output=True, text=True, timeout=_FETCH_WITHIN_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ExportError(f"npm could not fetch {PACKAGE}: {error}.", hint=_HINT) from error
        packed = sorted(Path(scratch).glob("*.tgz"))
        if done.returncode != 0 or len(packed) != 1:
            said = " ".join((done.stderr or done.stdout).split())[:300] or "it said nothing"
            raise ExportError(f"npm could not fetch {PACKAGE}: {said}", hint=_HINT)
        return unpack(packed[0])


def unpack(archive: Path, integrity: str = _INTEGRITY) -> Runtime:
    """Takes the files out of the package's archive.

    Args:
        archive: What `npm pack` wrote.
        integrity: Its SHA-512 in base64, as npm writes it.

    Raises:
        ExportError: It has another hash, or lacks a file.
    """
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if base64.b64encode(digest).decode() != integrity:
        raise ExportError(f"What npm gave is not {PACKAGE}: it has another hash.", hint=_HINT)
    files = {}
    with tarfile.open(archive, "r:gz") as tar:
        for name in _names():
            try:
                member = tar.getmember(f"package/dist/{name}")
            except KeyError as error:
                raise ExportError(f"{PACKAGE} has no {name}.", hint=_HINT) from error
            stream = tar.extractfile(member) if member.isfile() and member.size <= _LARGEST_FILE else None
            if stream is None:
                raise ExportError(f"{name} in {PACKAGE} is no file of a sensible size.", hint=_HINT)
            files[name] = stream.read()
    return _runtime(files, PACKAGE)


def _names() -> tuple[str, ...]:
    return tuple(name for build in BUILDS.values() for name in build)


def _runtime(files: Mapping[str, bytes], where: str) -> Runtime:
    """With the version that the files themselves tell."""
    versions = set()
    for build in BUILDS.values():
        told = re.search(rb"ONNX Runtime Web v(\d+\.\d+\.\d+[\w.-]*)", files[build.module][:400])
        if told is None or not files[build.wasm].startswith(b"\0asm"):
            raise ExportError(f"{where} does not hold ONNX Runtime Web.", hint=_HINT)
        versions.add(told[1].decode())
    if len(versions) > 1:
        raise ExportError(f"{where} holds files of different versions: {', '.join(sorted(versions))}.", hint=_HINT)
    return Runtime(versions.pop(), files)
