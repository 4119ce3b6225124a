"""Bundles and runs as a broken disk or a stranger could leave them; tests/checkpoints/test_bundle.py has the others.

A stranger's manifest fits his files: their hashes are right, and only what they say is wrong.
"""

import hashlib
import json
import os
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from cutaway.checkpoints import Run, find, restore, verify_bundle, write_bundle
from cutaway.errors import BundleError, CutawayError
from cutaway.networks import build

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]


@pytest.fixture
def bundle(tmp_path, make_manifest, spec):
    run = Run(tmp_path / "run")
    run.create()
    path = run.checkpoints / "step-00000001-validated"
    torch.manual_seed(0)
    write_bundle(path, make_manifest(1), {"model": build(spec).state_dict()})
    return path


def edit(bundle, change):
    raw = json.loads((bundle / "manifest.json").read_text())
    change(raw)
    (bundle / "manifest.json").write_text(json.dumps(raw))


def replace_model(bundle, data):
    """Another model file, with a manifest that fits it."""
    (bundle / "model.safetensors").write_bytes(data)
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit(bundle, lambda raw: raw["files"].update({"model.safetensors": entry}))


def change_tensor(change):
    def damage(bundle):
        tensors = safetensors.torch.load_file(bundle / "model.safetensors")
        change(tensors)
        replace_model(bundle, safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}))

    return damage


def header(text, body=b"", length=None):
    begin = struct.pack("<Q", len(text) if length is None else length)
    return lambda bundle: replace_model(bundle, begin + text + body)


def in_place(make):
    """Something else where the model's file was, of the size that the manifest says where that can be."""

    def damage(bundle):
        file = bundle / "model.safetensors"
        file.unlink()
        make(file)

    return damage


def repeat_a_key(bundle):
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text.replace("{", '{"classes": ["dog", "cat"],', 1))


def repeat_a_file(bundle):
    text = (bundle / "manifest.json").read_text()
    forged = '"files": {"model.safetensors": {"blake3": "%s", "bytes": 1},' % ("0" * 64)
    (bundle / "manifest.json").write_text(text.replace('"files": {', forged, 1))


def huge(bundle):
    with (bundle / "manifest.json").open("ab") as opened:
        opened.truncate(2**33)


STRANGE = {
    "a wrong type": (change_tensor(lambda t: t.update({"fc1.bias": t["fc1.bias"].double()})), "fc1.bias"),
    "whole numbers": (change_tensor(lambda t: t.update({"fc1.bias": t["fc1.bias"].int()})), "fc1.bias"),
    "a wrong shape": (change_tensor(lambda t: t.update({"fc1.weight": t["fc1.weight"][:, :-1]})), "fc1.weight"),
    "a shape that would broadcast": (change_tensor(lambda t: t.update({"fc1.bias": t["fc1.bias"][:1]})), "fc1.bias"),
    "a missing tensor": (change_tensor(lambda t: t.pop("fc1.bias")), "fc1.bias"),
    "an extra tensor": (change_tensor(lambda t: t.update(extra=torch.zeros(2))), "extra"),
    "NaN": (change_tensor(lambda t: t["fc1.bias"].fill_(float("nan"))), "NaN"),
    "infinity": (change_tensor(lambda t: t["fc1.weight"].view(-1)[3:4].fill_(float("inf"))), "fc1.weight"),
    "a header of 2^60 bytes": (header(b"{}", length=2**60), "not a safetensors file"),
    "2^50 elements": (
        header(b'{"fc1.bias":{"dtype":"F32","shape":[1125899906842624],"data_offsets":[0,4503599627370496]}}', b"1234"),
        "not a safetensors file",
    ),
    "random bytes": (lambda b: replace_model(b, os.urandom(500)), "not a safetensors file"),
    "a pickle": (lambda b: replace_model(b, b"\x80\x04cos\nsystem\n(S'false'\ntR."), "not a safetensors file"),
    "nothing": (lambda b: replace_model(b, b""), "not a safetensors file"),
    "a pipe": (in_place(os.mkfifo), "lacks model.safetensors"),
    "a directory": (in_place(Path.mkdir), "lacks model.safetensors"),
    "a dangling link": (in_place(lambda file: file.symlink_to("nowhere")), "symbolic link"),
    "a link to endless zeros": (in_place(lambda file: file.symlink_to("/dev/zero")), "symbolic link"),
    "a hidden extra file": (lambda b: (b / ".hidden").write_text(""), ".hidden"),
    "an extra directory": (lambda b: (b / "more").mkdir(), "more"),
    "a repeated key": (repeat_a_key, "not valid JSON"),
    "a repeated file": (repeat_a_file, "not valid JSON"),
    "a manifest of 8 GB": (huge, "larger than any"),
    "a manifest that is a list": (lambda b: (b / "manifest.json").write_text("[]"), "manifest"),
    "a size beyond any disk": (
        lambda b: edit(b, lambda raw: raw["files"]["model.safetensors"].update(bytes=2**62)),
        "bytes where its manifest says",
    ),
    "a negative size": (
        lambda b: edit(b, lambda raw: raw["files"]["model.safetensors"].update(bytes=-1)),
        "files.model.safetensors.bytes",
    ),
    "a number of 5000 digits": (
        lambda b: (b / "manifest.json").write_text('{"schema_version": ' + "9" * 5000 + "}"),
        "not valid JSON",
    ),
    "a million classes": (
        lambda b: edit(b, lambda raw: raw["network"].update(num_classes=10**6)),
        r"fc\d|out|classes",
    ),
    "a picture of a million pixels a side": (
        lambda b: edit(b, lambda raw: raw["network"].update(input_shape=[1, 10**6, 10**6])),
        r".",
    ),
}


def peak():
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


@pytest.mark.parametrize("kind", STRANGE)
def test_a_strange_bundle_is_refused_in_a_sentence_and_takes_no_memory(bundle, kind):
    damage, said = STRANGE[kind]
    damage(bundle)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak before
    before = peak()
    with pytest.raises(CutawayError, match=said):
        restore(bundle)
    assert peak() - before < 50 * 2**20


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["pipe", "directory"])
def test_something_else_in_place_of_a_manifest_is_refused_and_not_waited_for(bundle, make):
    (bundle / "manifest.json").unlink()
    make(bundle / "manifest.json")
    for read in (verify_bundle, restore):
        with pytest.raises(BundleError, match=r"no manifest\.json"):
            read(bundle)


def test_a_pipe_in_place_of_a_bundle_or_journal_is_not_waited_for(bundle, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleError, match="a bundle is a directory"):
        find(tmp_path / "pipe")
    run = Run(tmp_path / "run")
    os.mkfifo(run.metrics_jsonl)
    os.mkfifo(run.checkpoints / "step-00000009")
    assert run.journal() == []
    assert find(run.path).path == bundle


def test_a_journal_of_rubbish_gives_its_whole_lines(tmp_path):
    run = Run(tmp_path)
    lines = [b'{"kind": "step", "step": 1}', b"\xff\xfe", b"[" * 100_000, b'{"step": "x", "kind": 1}', b"7", b'{"kin']
    run.metrics_jsonl.write_bytes(b"\n".join(lines))
    assert run.journal() == [{"kind": "step", "step": 1}]


def test_a_damaged_bundle_is_no_reason_to_lose_the_whole_ones(bundle, make_manifest, spec):
    run = Run(bundle.parent.parent)
    for step in (2, 3, 4):
        path = run.checkpoints / f"step-{step:08d}-validated"
        write_bundle(path, make_manifest(step), {"model": build(spec).state_dict()})
    os.truncate(run.checkpoints / "step-00000004-validated" / "model.safetensors", 5)
    run.prune(keep_last=2)
    told = []
    assert run.newest_whole(told.append).manifest.progress.step == 3
    assert "5 bytes" in str(told[0])
    assert (run.checkpoints / "damaged-step-00000004-validated").is_dir()
    assert len(run.bundles()) == 2
