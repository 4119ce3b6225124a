from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from cutaway.checkpoints import Restored
from cutaway.checkpoints.manifest import Manifest
from cutaway.datasets import Dataset, Split
from cutaway.inspect.event_files import EventFiles
from cutaway.inspect.histograms import tensor_histogram
from cutaway.inspect.report import render_report, report_of_bundle, write_events
from cutaway.inspect.run_histories import Moment
from cutaway.inspect.updates import update_ratios
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


SOME = ["samples", "curves", "augmented", "features", "settings", "environment"]
ANSWERS = SimpleNamespace(logits=torch.tensor([[2.0, 0], [3, 0], [0, 1], [0, 4]]), labels=torch.tensor([0, 1, 0, 1]))


def test_a_bundle_is_told_whole_and_without_paths() -> None:
    journal = [{"kind": "step", "step": 1, "loss": 2.0}, {"kind": "epoch", "epoch": 1, "step": 9, "train_loss": 1.0}]
    data = report_of_bundle(restored(), dataset(False), ANSWERS, journal=journal, sections=SOME)
    html = render_report(data)
    assert data.title == "lenet5 on folder:pets"
    assert data["samples"]["target_layer"] == "relu2"
    assert data.headline["test accuracy"] == "50.0%"
    assert data["settings"]["settings"] == {"data": "folder:pets", "lr": 0.125}
    assert data["environment"]["environment"]["torch"] == "9.9"
    assert "Epoch 3, step 99, saved 2026-11-21" in html
    assert "After each of 1 epoch." in html
    assert "/home/" not in html
    assert "/home/user" not in html


def test_mistakes_come_first_by_confidence_with_the_answers_of_the_evaluation() -> None:
    views = report_of_bundle(restored(), dataset(False), ANSWERS, sections=SOME)["samples"]["views"]
    assert [(view.truth, view.explanations[0].label) for view in views] == [
        ("dog", "cat"),
        ("cat", "dog"),
        ("cat", "cat"),
        ("dog", "dog"),
    ]
    assert views[0].explanations[0].probability == pytest.approx(float(torch.tensor([3.0, 0]).softmax(0)[0]))
    assert views[0].explanations[1].label == "dog"


def test_pictures_that_are_prepared_already_are_not_prepared_twice() -> None:
    raw, prepared = (report_of_bundle(restored(), dataset(flag), ANSWERS, sections=SOME) for flag in (False, True))
    for one, other in zip(raw["samples"]["views"], prepared["samples"]["views"], strict=True):
        assert np.array_equal(one.picture, other.picture)
    assert torch.equal(raw["features"]["maps"][0].maps, prepared["features"]["maps"][0].maps)


def test_progress_is_told_for_each_picture() -> None:
    told = []

    def track(items, description, total=None):  # type: ignore[no-untyped-def]
        told.append((description, total))
        yield from items

    report_of_bundle(restored(), dataset(False), ANSWERS, right=1, wrong=2, sections=SOME, track=track)
    assert told[0] == ("explaining pictures", 3)


def test_the_grid_of_augmented_pictures_stands_in_the_report_as_it_is() -> None:
    grid = np.random.default_rng(0).integers(0, 256, (300, 700, 3), dtype=np.uint8)
    html = render_report(report_of_bundle(restored(), dataset(False), ANSWERS, augmented=grid, sections=SOME))
    (source,) = re.findall(r'<img class="sheet" src="data:image/png;base64,([^"]+)"', html)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))), grid)
    assert 'href="#augmented"' in html
    assert "augmented" not in render_report(report_of_bundle(restored(), dataset(False), ANSWERS, sections=SOME))


def test_frequent_mistakes_stand_with_the_pictures_the_surest_first() -> None:
    answers = SimpleNamespace(
        logits=torch.tensor([[2.0, 0], [1, 0], [0, 1], [3, 0]]), labels=torch.tensor([0, 1, 0, 1])
    )
    mistakes, other = report_of_bundle(restored(), dataset(True), answers, sections=["scores"])["scores"]["confusions"]
    assert (mistakes.pair.truth, mistakes.pair.prediction, mistakes.pair.times) == ("dog", "cat", 2)
    assert [round(probability, 4) for _, probability in mistakes.examples] == [0.9526, 0.7311]
    assert np.array_equal(mistakes.examples[0][0], dataset(True).test.image(3))
    assert len(other.examples) == 1


def test_weights_over_the_run_are_drawn_where_it_has_several_bundles(tmp_path: Path) -> None:
    parameters = dict(restored().network.named_parameters())
    moments = [
        Moment(
            Path(f"step-{step}"),
            step,
            0.1,
            tuple(tensor_histogram(name, value * step) for name, value in parameters.items()),
            update_ratios(parameters, {n: v.detach() * step for n, v in parameters.items()}, steps=1)
            if step > 1
            else (),
            (),
        )
        for step in (1, 2, 3)
    ]
    asked = {"sections": ["history", "settings"]}
    told = report_of_bundle(restored(), dataset(True), ANSWERS, history=moments, **asked)
    assert [section.key for section in told.sections] == ["history", "settings"]
    assert told["history"]["updates"] is not None
    assert render_report(told).count("data:image/png") == 2
    with EventFiles(tmp_path, step=3) as events:
        write_events(events, told)
    (file,) = tmp_path.iterdir()
    assert all(f"inspect/{name} over the run".encode() in file.read_bytes() for name in ("weights", "updates"))
    assert "history" not in report_of_bundle(restored(), dataset(True), ANSWERS, history=moments[:2], **asked)


def test_of_a_run_with_one_or_two_bundles_the_last_step_is_drawn(tmp_path: Path) -> None:
    parameters = {name: value.detach() for name, value in restored().network.named_parameters()}
    steps = update_ratios(parameters, {name: 1.001 * value for name, value in parameters.items()}, steps=1)
    last = Moment(Path("step-8"), 8, 0.1, (), (), steps)
    told = report_of_bundle(restored(), dataset(True), ANSWERS, history=[last], sections=["history"])
    text = " ".join(render_report(told).split())
    assert "How far the last step moved the weights of each layer" in text
    assert text.count("data:image/png") == 1
    with EventFiles(tmp_path, step=8) as events:
        write_events(events, told)
    (file,) = tmp_path.iterdir()
    assert b"inspect/updates in the last step" in file.read_bytes()
