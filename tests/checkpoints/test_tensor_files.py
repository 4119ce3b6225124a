"""Safetensors files: written as the library would read them, and read only where they are what the entry says."""

import json
import mmap
import multiprocessing
import os
import struct
import threading

import pytest
import safetensors.torch
import torch
from blake3 import blake3

from cutaway.checkpoints import tensor_files
from cutaway.checkpoints.manifest import FileEntry
from cutaway.checkpoints.tensor_files import TYPES, check_hash, load_tensors, shapes_in, write_tensors
from cutaway.errors import BundleError


def examples():
    torch.manual_seed(0)
    tensors = {str(kind).removeprefix("torch."): torch.arange(7).to(kind) for kind in TYPES}
    tensors["channels last"] = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    tensors["gaps"] = torch.randn(6, 6)[::2, 1:5]
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "ünï/côde\n": torch.ones(2)}
    return tensors


def sealed(file, data):
    """A file as a stranger could make it: its entry fits."""
    file.write_bytes(data)
    return FileEntry(blake3=blake3(data).hexdigest(), bytes=len(data))


def with_header(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


@pytest.mark.parametrize("chunk", [7, 64, 8 * 2**20])
def test_the_library_reads_what_is_written_and_the_entry_is_of_the_bytes(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(tensor_files, "_CHUNK", chunk)
    monkeypatch.setattr(tensor_files, "_AHEAD", 2)
    file = tmp_path / "x.safetensors"
    entry = write_tensors(file, examples())
    data = file.read_bytes()
    assert entry == FileEntry(blake3=blake3(data).hexdigest(), bytes=len(data))
    for back in (safetensors.torch.load(data), load_tensors(file, entry)):
        assert back.keys() == examples().keys()
        for name, tensor in examples().items():
            assert back[name].dtype == tensor.dtype
            assert torch.equal(back[name], tensor), name
    assert shapes_in(file)["gaps"] == ("F32", (3, 4))


def test_the_same_tensors_in_another_order_give_the_same_file(tmp_path):
    tensors = examples()
    first = write_tensors(tmp_path / "a", tensors)
    assert write_tensors(tmp_path / "b", dict(reversed(tensors.items()))) == first


def test_every_tensor_begins_where_its_type_may(tmp_path):
    write_tensors(tmp_path / "x", examples())
    data = (tmp_path / "x").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert length % 8 == 0
    for name, entry in json.loads(data[8 : 8 + length]).items():
        assert entry["data_offsets"][0] % examples()[name].element_size() == 0


def test_no_more_copies_are_waiting_to_be_hashed_than_said(tmp_path, monkeypatch):
    """Hashing that lags must hold the writing back: copies made contiguous would fill the memory."""
    monkeypatch.setattr(tensor_files, "_AHEAD", 2)
    made, hashed, most = [0], [0], [0]
    chunks, update = tensor_files._chunks, tensor_files._update

    def slow(digest, chunk):
        threading.Event().wait(0.002)
        update(digest, chunk)
        hashed[0] += 1

    def counted(tensors):
        for chunk in chunks(tensors):
            made[0] += 1
            most[0] = max(most[0], made[0] - hashed[0])
            yield chunk

    monkeypatch.setattr(tensor_files, "_chunks", counted)
    monkeypatch.setattr(tensor_files, "_update", slow)
    write_tensors(tmp_path / "x", {str(number): torch.ones(1) for number in range(30)})
    assert 2 <= most[0] <= 4


def test_a_file_is_never_written_over(tmp_path):
    (tmp_path / "x").write_bytes(b"before")
    with pytest.raises(FileExistsError):
        write_tensors(tmp_path / "x", examples())
    assert (tmp_path / "x").read_bytes() == b"before"


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
STRANGE = {
    "a header of 2^60 bytes": with_header({}, length=2**60),
    "a header of 2^64 - 1 bytes": with_header({}, length=2**64 - 1),
    "a header longer than the file": with_header({}, length=3),
    "no header": b"",
    "half a length": b"\x08\0\0",
    "a header that is no JSON": with_header(b"{{{{"),
    "a header that is no UTF-8": with_header(b'{"\xff":1}'),
    "a header that is a list": with_header([]),
    "deep JSON": with_header(b"[" * 100_000),
    "2^50 elements": with_header({"x": ENTRY | {"shape": [2**50], "data_offsets": [0, 2**52]}}, bytes(8)),
    "elements that overflow": with_header({"x": ENTRY | {"shape": [2**40, 2**40]}}, bytes(8)),
    "a negative shape": with_header({"x": ENTRY | {"shape": [-2]}}, bytes(8)),
    "another shape than its bytes": with_header({"x": ENTRY | {"shape": [3]}}, bytes(8)),
    "another type than its bytes": with_header({"x": ENTRY | {"dtype": "F64"}}, bytes(8)),
    "an unknown type": with_header({"x": ENTRY | {"dtype": "PICKLE"}}, bytes(8)),
    "offsets that are swapped": with_header({"x": ENTRY | {"data_offsets": [8, 0]}}, bytes(8)),
    "bytes that no tensor owns": with_header({"x": ENTRY}, bytes(16)),
    "tensors that overlap": with_header({"x": ENTRY, "y": ENTRY}, bytes(8)),
    "a cut tensor": with_header({"x": ENTRY}, bytes(7)),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_a_strange_file_is_refused_in_a_sentence_though_its_hash_is_right(tmp_path, kind):
    file = tmp_path / "x.safetensors"
    entry = sealed(file, STRANGE[kind])
    for read in (lambda: shapes_in(file), lambda: load_tensors(file, entry)):
        with pytest.raises(BundleError, match=r"x\.safetensors is not a safetensors file") as refused:
            read()
        assert len(str(refused.value)) < 600


def test_a_header_of_200_mb_is_refused_without_reading_it(tmp_path):
    file = tmp_path / "x.safetensors"
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", 200 * 2**20))
        opened.truncate(201 * 2**20)
    with pytest.raises(BundleError, match="not a safetensors file"):
        shapes_in(file)


def test_a_directory_in_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "directory").mkdir()
    for name in ("directory", "missing"):
        with pytest.raises(BundleError, match=name):
            check_hash(tmp_path / name, FileEntry(blake3="0" * 64, bytes=1))
        with pytest.raises(BundleError, match=name):
            shapes_in(tmp_path / name)


@pytest.mark.parametrize("at", [0, 8, 40, -1])
def test_a_flipped_bit_anywhere_is_found(tmp_path, at):
    file = tmp_path / "x"
    entry = write_tensors(file, examples())
    data = bytearray(file.read_bytes())
    data[at] ^= 4
    file.write_bytes(data)
    with pytest.raises(BundleError, match="its hash differs"):
        load_tensors(file, entry)


def in_a_fork(work, *args):
    """The exit status of a process that does the work; None where it does not come to an end."""
    child = multiprocessing.get_context("fork").Process(target=work, args=args)
    child.start()
    child.join(30)
    status = child.exitcode
    child.kill()
    child.join()
    return status


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process_can_read_after_the_one_that_it_comes_from_did(tmp_path):
    """BLAKE3's pool of threads for the whole process is not there after a fork, and is waited for without an end."""
    file = tmp_path / "x"
    entry = sealed(file, os.urandom(4 * 2**20))
    check_hash(file, entry)
    assert in_a_fork(check_hash, file, entry) == 0


def read_while_it_is_cut_short(file, entry):
    class Cutting:
        AUTO = blake3.AUTO

        def __init__(self, **options):
            self.digest = blake3(**options)
            self.hexdigest = self.digest.hexdigest

        def update(self, chunk):
            os.truncate(file, 5000)
            self.digest.update(chunk)

        def update_mmap(self, path):
            with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                self.update(mapped)

    tensor_files.blake3 = Cutting
    with pytest.raises(BundleError, match="its hash differs"):
        check_hash(file, entry)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_file_that_is_cut_short_while_it_is_read_is_damaged_and_no_end_of_the_process(tmp_path):
    file = tmp_path / "x"
    assert in_a_fork(read_while_it_is_cut_short, file, sealed(file, os.urandom(4 * 2**20))) == 0
