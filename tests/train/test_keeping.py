"""Data kept between the runs of one process: loaded and decoded once, and no run is another for it."""

import pytest

from cutaway.checkpoints import find
from cutaway.datasets import split as split_module
from cutaway.train import TrainSettings, train
from cutaway.train.keeping import KeptData


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded, in order."""
    files = []
    decode = split_module.decode
    monkeypatch.setattr(split_module, "decode", lambda path: files.append(path) or decode(path))
    return files


def settings(pictures, out, **changes):
    base = {"data": f"folder:{pictures}", "network": "mlp", "image_size": 8, "epochs": 1, "batch_size": 16}
    return TrainSettings(**base | {"out": out} | changes)


def hashes(out):
    return {name: entry.digest for name, entry in find(out, prefer="last").manifest.files.items()}


def test_runs_over_the_same_data_decode_it_once_and_come_out_the_same(pictures, tmp_path, decoded):
    kept = KeptData()
    train(settings(pictures, tmp_path / "a"), kept=kept)
    once = len(decoded)
    assert once >= 66
    train(settings(pictures, tmp_path / "b", lr=0.1, label_smoothing=0.1), kept=kept)
    train(settings(pictures, tmp_path / "c"), kept=kept)
    assert len(decoded) == once
    train(settings(pictures, tmp_path / "alone"))
    assert hashes(tmp_path / "c") == hashes(tmp_path / "a") == hashes(tmp_path / "alone") != hashes(tmp_path / "b")


@pytest.mark.parametrize("change", [{"seed": 1}, {"image_size": 9}, {"memory_limit": 0}])
def test_other_data_is_not_taken_for_what_was_kept(change, pictures, tmp_path):
    kept = KeptData()
    train(settings(pictures, tmp_path / "a"), kept=kept)
    train(settings(pictures, tmp_path / "b", **change), kept=kept)
    train(settings(pictures, tmp_path / "alone", **change))
    assert hashes(tmp_path / "b") == hashes(tmp_path / "alone")
    manifests = [find(tmp_path / name).manifest for name in ("b", "alone")]
    assert manifests[0].preprocessing == manifests[1].preprocessing
    assert manifests[0].data == manifests[1].data
