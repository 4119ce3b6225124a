import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from cutaway.errors import ExportError
from cutaway.serve.web import fetch_runtime, read_runtime
from cutaway.serve.web.runtime import Runtime, unpack


def put(folder: Path, runtime: Runtime, **changed: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in runtime.files.items():
        (folder / name).write_bytes(changed.get(name, content))
    return folder


@pytest.mark.parametrize("inside", ["", "dist", "package/dist"])
def test_an_unpacked_package_or_its_dist_folder_is_read(pretended: Runtime, tmp_path: Path, inside: str) -> None:
    put(tmp_path / inside, pretended)
    (tmp_path / inside / "ort.wasm.min.mjs.map").write_bytes(b"not needed")
    read = read_runtime(tmp_path)
    assert read.version == "1.2.3"
    assert read.files == pretended.files


def test_a_missing_part_is_named(pretended: Runtime, tmp_path: Path) -> None:
    put(tmp_path, pretended)
    (tmp_path / "ort.min.mjs").unlink()
    with pytest.raises(ExportError, match=r"has no ort\.min\.mjs") as raised:
        read_runtime(tmp_path)
    assert "npm pack onnxruntime-web@" in raised.value.hint
    with pytest.raises(ExportError, match="There is no folder"):
        read_runtime(tmp_path / "nowhere")


def test_files_of_something_else_and_of_two_versions_are_refused(pretended: Runtime, tmp_path: Path) -> None:
    name = "ort.min.mjs"
    with pytest.raises(ExportError, match="does not hold ONNX Runtime Web"):
        read_runtime(put(tmp_path / "other", pretended, **{name: b"alert(1)"}))
    with pytest.raises(ExportError, match=r"different versions: 1\.2\.3, 1\.2\.4"):
        read_runtime(put(tmp_path / "mixed", pretended, **{name: b"/*! ONNX Runtime Web v1.2.4 */"}))


def packed(path: Path, files: dict[str, bytes]) -> str:
    """Writes an archive as npm does, and gives its hash."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def test_an_archive_is_taken_by_its_hash_alone(pretended: Runtime, tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    integrity = packed(archive, {f"package/dist/{name}": content for name, content in pretended.files.items()})
    assert unpack(archive, integrity).files == pretended.files
    with pytest.raises(ExportError, match="it has another hash"):
        unpack(archive)


def test_an_archive_that_lacks_a_file_is_refused(pretended: Runtime, tmp_path: Path) -> None:
    archive = tmp_path / "package.tgz"
    integrity = packed(archive, {"package/dist/ort.wasm.min.mjs": b""})
    with pytest.raises(ExportError, match=r"has no ort-wasm-simd-threaded\.mjs"):
        unpack(archive, integrity)


def npm_that(folder: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{does}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_without_npm_there_is_a_sentence_on_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match="there is no npm here") as raised:
        fetch_runtime()
    assert "--web-runtime" in raised.value.hint


def test_what_npm_says_of_a_failure_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    npm_that(tmp_path / "bin", monkeypatch, "echo 'npm error network is down' >&2; exit 1")
    with pytest.raises(ExportError, match=r"could not fetch onnxruntime-web@.*network is down"):
        fetch_runtime()


def test_another_package_than_the_known_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    npm_that(tmp_path / "bin", monkeypatch, "echo altered > onnxruntime-web.tgz")
    with pytest.raises(ExportError, match="it has another hash"):
        fetch_runtime()
