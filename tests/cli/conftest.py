"""A run with a bundle of a small convolutional network, without training one."""

import shutil
from pathlib import Path

import pytest
import torch

STORED = Path(__file__).parents[1] / "checkpoints" / "fixtures" / "schema-1"


@pytest.fixture
def convolutional_run(tmp_path, monkeypatch):
    """`run` in the current directory, whose only bundle is of an untrained lenet5 on the Fashion-MNIST sample."""
    from cutaway.checkpoints import write_bundle
    from cutaway.checkpoints.runs import find
    from cutaway.networks import NetworkSpec, build
    from cutaway.preprocessing import Preprocessing

    monkeypatch.chdir(tmp_path)
    shutil.copytree(STORED, "run")
    stored = find("run")
    spec = NetworkSpec(name="lenet5", num_classes=10, input_shape=(1, 28, 28))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tensors = build(spec).state_dict()
    shutil.rmtree("run/checkpoints")
    Path("run/checkpoints").mkdir()
    path = Path("run/checkpoints") / stored.path.name
    grey = Preprocessing(size=(28, 28), color="grey", mean=(0.286,), std=(0.353,))
    manifest = stored.manifest.model_copy(update={"network": spec, "preprocessing": grey})
    write_bundle(path, manifest, {"model": dict(tensors)})
    return Path("run")
