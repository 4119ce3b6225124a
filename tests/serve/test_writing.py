"""A file is in its place whole or not at all."""

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cutaway.errors import ExportError
from cutaway.serve.writing import check_place, replace_folder, whole_or_nothing


def test_the_file_gets_its_name_only_when_the_block_ends(tmp_path):
    out = tmp_path / "new" / "model.onnx"
    with whole_or_nothing(out, b"content") as temporary:
        assert temporary.read_bytes() == b"content"
        assert temporary.parent == out.parent
        assert not out.exists()
    assert out.read_bytes() == b"content"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, ExportError("no")])
def test_after_an_interruption_the_earlier_file_is_there_and_nothing_else(tmp_path, interruption):
    out = tmp_path / "model.onnx"
    out.write_bytes(b"earlier")
    with pytest.raises((KeyboardInterrupt, SystemExit, ExportError)), whole_or_nothing(out, b"later"):
        raise interruption
    assert out.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [out]


def test_a_disk_that_fills_up_leaves_nothing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        refused = pytest.raises(ExportError, match=r"model\.onnx cannot be written: File too large")
        with refused, whole_or_nothing(tmp_path / "model.onnx", b"x" * 100_000):
            pytest.fail("the block must not run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_and_an_impossible_place_are_said_in_words(tmp_path):
    with pytest.raises(ExportError, match="is a folder"), whole_or_nothing(tmp_path, b""):
        pass
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExportError, match="cannot be written"), whole_or_nothing(tmp_path / "file" / "x.onnx", b""):
        pass


def test_a_place_is_looked_at_before_the_work_and_left_as_it_was(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"earlier")
    check_place(tmp_path / "model.onnx")
    check_place(tmp_path / "not" / "there" / "yet" / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    with pytest.raises(ExportError, match="is a folder"):
        check_place(tmp_path)
    with pytest.raises(ExportError, match="cannot be written: Not a directory"):
        check_place(tmp_path / "model.onnx" / "below" / "model.onnx")


@pytest.fixture
def events(monkeypatch):
    """What is flushed to disk, and what gets which name, in order."""
    events = []
    sync, replace, rename = os.fsync, Path.replace, Path.rename

    def synced(descriptor):
        found = os.fstat(descriptor)
        events.append("folder" if stat.S_ISDIR(found.st_mode) else f"{found.st_size} bytes")
        sync(descriptor)

    def named(how):
        def renamed(self, target):
            events.append(f"renamed to {target.name}")
            return how(self, target)

        return renamed

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", named(replace))
    monkeypatch.setattr(Path, "rename", named(rename))
    return events


def test_the_bytes_are_on_disk_before_the_name_and_the_name_before_it_returns(tmp_path, events):
    """A loss of power after the renaming must not find a name without its bytes."""
    with whole_or_nothing(tmp_path / "model.onnx", b"content"):
        events.append("checked")
    assert events == ["7 bytes", "checked", "renamed to model.onnx", "folder"]


def test_what_dead_writers_left_of_the_same_file_is_swept_and_nothing_else(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    left = [".tmp-0123abcd-model.onnx", f".tmp-{dead.pid}-0123abcd-model.onnx", ".tmp-1-0123abce-model.onnx"]
    kept = [
        ".tmp-0123abce-model.onnx",  # of an earlier version, and young
        f".tmp-{os.getpid()}-0123abcd-model.onnx",
        f".tmp-{dead.pid}-0123abcd-other.onnx",
        f".tmp-{dead.pid}-notes-model.onnx",
    ]
    for name in left + kept:
        (tmp_path / name).write_bytes(b"")
    for name in (left[0], left[2]):
        os.utime(tmp_path / name, (0, 0))
    with whole_or_nothing(tmp_path / "model.onnx", b"content"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", *kept}


def test_a_folder_within_takes_the_place_of_an_earlier_one_whole(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    left = tmp_path / f".tmp-{dead.pid}-0123abcd-site"
    (left / "within").mkdir(parents=True)
    replace_folder(tmp_path / "site", {"a": b"1", "within/deep/b": b"2", "old": b"3"})
    replace_folder(tmp_path / "site", {"a": b"4", "within/deep/b": b"5"})
    found = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"site/a": b"4", "site/within/deep/b": b"5"}
    assert list(tmp_path.iterdir()) == [tmp_path / "site"]


def test_a_folders_files_and_names_are_on_disk_before_it_takes_its_name(tmp_path, events):
    replace_folder(tmp_path / "site", {"a": b"1", "within/deep/b": b"22"})
    assert events == ["1 bytes", "2 bytes", "folder", "folder", "folder", "renamed to site", "folder"]
