"""Bundles: written whole or not at all, read only if every byte is right."""

import contextlib
import itertools
import json
import os

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutaway.checkpoints import Run, best_of, find, restore, verify_bundle, write_bundle
from cutaway.checkpoints.bundle import read_manifest
from cutaway.checkpoints.manifest import Data, Environment, Manifest, Monitored, Progress, parse_manifest
from cutaway.errors import BundleError, CutawayError
from cutaway.networks import NetworkSpec, build
from cutaway.preprocessing import Preprocessing

SPEC = NetworkSpec(name="mlp", num_classes=2, input_shape=(1, 4, 4), arguments={"hidden": 3})


def make_manifest(step=1, epoch=1, accuracy=0.5, **changes):
    values = {
        "network": SPEC,
        "classes": ("cat", "dog"),
        "preprocessing": Preprocessing(size=(4, 4), color="grey", mean=(0.5,), std=(0.25,)),
        "progress": Progress(epoch=epoch, batch=0, step=step),
        "phase": "validated",
        "metrics": {"valid_accuracy": accuracy},
        "monitored": Monitored(metric="valid_accuracy", mode="max"),
        "configuration": {"seed": 0},
        "optimizer": [],
        "data": Data(name="d", fingerprint="f", source="s", sizes={"train": 1}),
        "environment": Environment(versions={}, device="cpu", threads=1, platform="Linux"),
        "created": "2026-01-01T00:00:00+00:00",
        "files": {},
    }
    return Manifest(**values | changes)


def make_bundle(run, **changes):
    manifest = make_manifest(**changes)
    run.create()
    path = run.checkpoints / f"step-{manifest.progress.step:08d}-validated"
    torch.manual_seed(0)
    write_bundle(path, manifest, {"model": build(SPEC).state_dict()})
    return path


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(Run(tmp_path))


def edit_manifest(bundle, change):
    raw = json.loads((bundle / "manifest.json").read_text())
    change(raw)
    (bundle / "manifest.json").write_text(json.dumps(raw))


def test_a_network_comes_back_with_its_weights_classes_and_preprocessing(bundle):
    torch.manual_seed(0)
    expected = build(SPEC).eval()
    before = torch.get_rng_state()
    restored = restore(bundle)
    assert torch.equal(torch.get_rng_state(), before), "restoring drew from the global generator"
    inputs = torch.rand(3, 1, 4, 4)
    assert torch.equal(restored.network(inputs), expected(inputs))
    assert restored.classes == ("cat", "dog")
    assert restored.preprocessing.mean == (0.5,)
    assert not restored.network.training


def test_channels_last_and_shared_tensors_are_stored(tmp_path):
    weight = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
    path = tmp_path / "step-00000001"
    write_bundle(path, make_manifest(), {"model": {"a": weight, "b": weight, "part": weight[:, :1]}})
    back = safetensors.torch.load_file(path / "model.safetensors")
    assert torch.equal(back["a"], weight)
    assert torch.equal(back["b"], weight)
    assert torch.equal(back["part"], weight[:, :1])


def test_infinities_and_nan_survive_the_manifest(tmp_path):
    values = {"a": float("inf"), "b": float("-inf"), "c": float("nan")}
    text = make_manifest(metrics=values).to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    back = parse_manifest(text, "it").metrics
    assert back["a"] == float("inf")
    assert back["b"] == float("-inf")
    assert back["c"] != back["c"]


def test_a_bundle_is_never_written_over(bundle):
    before = (bundle / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="never written over"):
        write_bundle(bundle, make_manifest(), {"model": {"x": torch.zeros(1)}})
    assert (bundle / "manifest.json").read_bytes() == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_until_the_rename_nothing_is_taken_for_a_bundle(tmp_path, monkeypatch):
    """Every file and the directory are synced before the rename, and the parent after it."""
    order = []
    sync, rename = os.fsync, type(tmp_path).rename

    def noted_sync(descriptor):
        inode = os.fstat(descriptor).st_ino
        order.append(("sync", next(path.name for path in tmp_path.rglob("*") if path.stat().st_ino == inode)))
        sync(descriptor)

    def noted_rename(self, target):
        order.append(("rename", target.name))
        assert Run(tmp_path).bundle_paths() == []
        return rename(self, target)

    Run(tmp_path).create()
    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(type(tmp_path), "rename", noted_rename)
    make_bundle(Run(tmp_path))
    name = "step-00000001-validated"
    assert order == [
        ("sync", "model.safetensors"),
        ("sync", "manifest.json"),
        ("sync", f".tmp-{name}"),
        ("rename", name),
        ("sync", "checkpoints"),
    ]


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


DAMAGE = {
    "a flipped bit": (lambda b: flip(b / "model.safetensors"), "its hash differs"),
    "a truncation": (lambda b: os.truncate(b / "model.safetensors", 9), "9 bytes"),
    "a missing file": (lambda b: (b / "model.safetensors").unlink(), "lacks model.safetensors"),
    "an extra file": (lambda b: (b / "evil.py").write_text(""), "evil.py"),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "no manifest.json"),
    "half a manifest": (lambda b: os.truncate(b / "manifest.json", 40), "not valid JSON"),
    "deep JSON": (lambda b: (b / "manifest.json").write_text("[" * 100_000), "not valid JSON"),
    "a newer schema": (lambda b: edit_manifest(b, lambda m: m.update(schema_version=9)), "schema 9"),
    "a path upwards": (
        lambda b: edit_manifest(b, lambda m: m["files"].update({"../x.safetensors": m["files"]["model.safetensors"]})),
        "not a name",
    ),
    "an absolute path": (
        lambda b: edit_manifest(b, lambda m: m["files"].update({"/etc/passwd": m["files"]["model.safetensors"]})),
        "not a name",
    ),
    "another network": (lambda b: edit_manifest(b, lambda m: m["network"].update(name="lenet5")), "lenet5"),
    "an unknown network": (lambda b: edit_manifest(b, lambda m: m["network"].update(name="os.system")), "os.system"),
    "a forbidden argument": (
        lambda b: edit_manifest(b, lambda m: m["network"].update(arguments={"weights": "DEFAULT"})),
        "weights",
    ),
    "a huge network": (
        lambda b: edit_manifest(b, lambda m: m["network"].update(arguments={"hidden": 65536})),
        "fc1.weight",
    ),
    "a missing class": (lambda b: edit_manifest(b, lambda m: m.update(classes=["cat"])), "1 classes"),
    "another input": (lambda b: edit_manifest(b, lambda m: m["preprocessing"].update(size=[5, 4])), "preprocessing"),
    "a surprise": (lambda b: edit_manifest(b, lambda m: m.update(surprise=1)), "surprise"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_in_a_sentence(bundle, kind):
    damage, said = DAMAGE[kind]
    damage(bundle)
    with pytest.raises(CutawayError, match=said):
        restore(bundle)


def test_a_symbolic_link_in_a_bundle_is_refused(bundle, tmp_path):
    file = bundle / "model.safetensors"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="symbolic link"):
        verify_bundle(bundle)


def test_a_file_in_place_of_a_bundle_is_refused(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"x")
    with pytest.raises(BundleError, match="a file"):
        read_manifest(tmp_path / "model.pth")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_random_bytes_for_a_manifest_give_a_cutaway_error(bundle, data):
    (bundle / "manifest.json").write_bytes(data)
    with pytest.raises(CutawayError):
        restore(bundle)


FRESH = itertools.count()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_manifest_gives_the_network_or_a_cutaway_error(tmp_path, data):
    run = Run(tmp_path / str(next(FRESH)))
    bundle = make_bundle(run)
    raw = json.loads((bundle / "manifest.json").read_text())
    node = raw
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
            node = node[key]
            continue
        node[key] = data.draw(JSON)
        break
    (bundle / "manifest.json").write_text(json.dumps(raw))
    with contextlib.suppress(CutawayError):
        restore(bundle)


def test_references(tmp_path):
    run = Run(tmp_path / "run")
    for step, accuracy in ((10, 0.5), (20, 0.9), (30, 0.7), (40, float("nan"))):
        make_bundle(run, step=step, accuracy=accuracy)
    name = str(run.path)
    assert find(name).manifest.progress.step == 20
    assert find(f"{name}@best").manifest.progress.step == 20
    assert find(name, prefer="last").manifest.progress.step == 40
    assert find(f"{name}@last").manifest.progress.step == 40
    assert find(f"{name}@30").manifest.progress.step == 30
    assert find(run.checkpoints / "step-00000010-validated").manifest.progress.step == 10
    with pytest.raises(BundleError, match=r"10, 20, 30, 40"):
        find(f"{name}@35")
    with pytest.raises(BundleError, match="RUN@best"):
        find(f"{name}@newest")
    with pytest.raises(BundleError, match="no run or bundle"):
        find(tmp_path / "nothing")
    with pytest.raises(BundleError) as told:
        find(f"{name}2@last")
    assert told.value.hint == f"Did you mean {name}?"


def test_the_best_is_the_lowest_where_less_is_better(tmp_path):
    run = Run(tmp_path)
    for step, loss in ((1, 0.5), (2, 0.1), (3, 0.1)):
        make_bundle(run, step=step, metrics={"valid_loss": loss}, monitored=Monitored(metric="valid_loss", mode="min"))
    assert best_of(run.bundles()).manifest.progress.step == 2


def test_pruning_keeps_the_best_and_the_newest(tmp_path):
    run = Run(tmp_path)
    for step, accuracy in ((1, 0.1), (2, 0.9), (3, 0.2), (4, 0.3), (5, 0.4)):
        make_bundle(run, step=step, accuracy=accuracy)
    run.prune(keep_last=2)
    assert [bundle.manifest.progress.step for bundle in run.bundles()] == [2, 4, 5]
    assert not [path for path in run.checkpoints.iterdir() if path.name.startswith(".")]


def test_a_killed_writer_s_leftovers_are_no_bundle_and_are_cleared(bundle, tmp_path):
    run = Run(tmp_path)
    bundle.rename(bundle.with_name(".tmp-" + bundle.name))
    assert run.bundle_paths() == []
    run.clear_temporary()
    assert list(run.checkpoints.iterdir()) == []
