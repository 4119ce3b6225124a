"""A file is in its place whole or not at all."""

import resource

import pytest

from cutaway.errors import ExportError
from cutaway.serve.export.writing import whole_or_nothing


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
