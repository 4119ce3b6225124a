from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cutaway.checkpoints import Restored
from cutaway.checkpoints.manifest import Manifest
from cutaway.datasets import Dataset, Split
from cutaway.inspect.report import render_report
from cutaway.inspect.report_assembly import assemble_report
from cutaway.networks import NetworkSpec, build
from cutaway.preprocessing.spec import Preprocessing

CLASSES = ("cat", "dog")
PREPROCESSING = Preprocessing(size=(28, 28), color="grey", mean=(0.5,), std=(0.25,))
SPEC = NetworkSpec(name="lenet5", num_classes=2, input_shape=(1, 28, 28))


def restored() -> Restored:
    manifest = Manifest.model_validate(
        {
            "network": SPEC,
            "classes": CLASSES,
            "preprocessing": PREPROCESSING,
            "progress": {"epoch": 3, "batch": 0, "step": 99},
            "phase": "validated",
            "metrics": {"valid_accuracy": 0.5},
            "monitored": {"metric": "valid_accuracy", "mode": "max"},
            "configuration": {"data": "folder:/home/user/pets", "lr": 0.125},
            "optimizer": [],
            "data": {"name": "folder:pets", "fingerprint": "f", "source": "a folder", "sizes": {"test": 4}},
            "environment": {"versions": {"torch": "9.9"}, "device": "cpu", "threads": 2, "platform": "linux"},
            "created": "2026-11-21T10:00:00+00:00",
            "files": {},
        }
    )
    torch.manual_seed(0)
    return Restored(build(SPEC).eval(), SPEC, CLASSES, PREPROCESSING, manifest, Path("/home/user/runs/pets"))


def dataset(prepared: bool) -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 40, 1), dtype=np.uint8)
    if prepared:
        images = np.stack([PREPROCESSING.picture(image) for image in images])
    split = Split("test", np.array([0, 1, 0, 1]), images, prepared=prepared)
    return Dataset("folder:pets", CLASSES, split, split, split, fingerprint="f", source="a folder", in_memory=True)


ANSWERS = SimpleNamespace(logits=torch.tensor([[2.0, 0], [3, 0], [0, 1], [0, 4]]), labels=torch.tensor([0, 1, 0, 1]))


def test_a_bundle_is_told_whole_and_without_paths() -> None:
    journal = [{"kind": "step", "step": 1, "loss": 2.0}, {"kind": "epoch", "epoch": 1, "step": 9, "train_loss": 1.0}]
    data = assemble_report(restored(), dataset(False), ANSWERS, journal=journal)
    html = render_report(data)
    assert data.title == "lenet5 on folder:pets"
    assert data.target_layer == "relu2"
    assert data.headline["test accuracy"] == "50.0%"
    assert data.settings == {"data": "folder:pets", "lr": 0.125}
    assert data.environment["torch"] == "9.9"
    assert "Epoch 3, step 99, saved 2026-11-21" in html
    assert "After each of 1 epoch." in html
    assert "/home/" not in html
    assert "/home/user" not in html


def test_mistakes_come_first_by_confidence_with_the_answers_of_the_evaluation() -> None:
    views = assemble_report(restored(), dataset(False), ANSWERS).samples
    assert [(view.truth, view.explanations[0].label) for view in views] == [
        ("dog", "cat"),
        ("cat", "dog"),
        ("cat", "cat"),
        ("dog", "dog"),
    ]
    assert views[0].explanations[0].probability == pytest.approx(float(torch.tensor([3.0, 0]).softmax(0)[0]))
    assert views[0].explanations[1].label == "dog"


def test_pictures_that_are_prepared_already_are_not_prepared_twice() -> None:
    raw, prepared = (assemble_report(restored(), dataset(flag), ANSWERS) for flag in (False, True))
    for one, other in zip(raw.samples, prepared.samples, strict=True):
        assert np.array_equal(one.picture, other.picture)
    assert torch.equal(raw.features[0].maps, prepared.features[0].maps)


def test_progress_is_told_for_each_picture() -> None:
    told = []

    def track(items, description, total=None):  # type: ignore[no-untyped-def]
        told.append((description, total))
        yield from items

    assemble_report(restored(), dataset(False), ANSWERS, right=1, wrong=2, track=track)
    assert told == [("explaining pictures", 3)]
