"""A manifest to write small bundles with."""

import pytest

from cutaway.checkpoints.manifest import Data, Environment, Manifest, Monitored, Progress
from cutaway.networks import NetworkSpec
from cutaway.preprocessing import Preprocessing


@pytest.fixture
def make_manifest():
    def make(**changes):
        values = {
            "network": NetworkSpec(name="mlp", num_classes=2, input_shape=(1, 4, 4), arguments={"hidden": 3}),
            "classes": ("cat", "dog"),
            "preprocessing": Preprocessing(size=(4, 4), color="grey", mean=(0.5,), std=(0.25,)),
            "progress": Progress(epoch=1, batch=0, step=1),
            "phase": "validated",
            "metrics": {"valid_accuracy": 0.5},
            "monitored": Monitored(metric="valid_accuracy", mode="max"),
            "configuration": {"seed": 0},
            "optimizer": [],
            "data": Data(name="d", fingerprint="f", source="s", sizes={"train": 1}),
            "environment": Environment(versions={}, device="cpu", threads=1, platform="Linux"),
            "created": "2026-01-01T00:00:00+00:00",
            "files": {},
        }
        return Manifest(**values | changes)

    return make
