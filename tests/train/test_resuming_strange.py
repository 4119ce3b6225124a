"""Resuming from manifests that a stranger or a broken disk changed: a sentence, whatever they say."""

import contextlib
import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutaway.checkpoints import Run
from cutaway.errors import BundleError, CutawayError
from cutaway.train import TrainSettings, train

DATA = (np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8), np.arange(40) % 2)
VALUES = st.sampled_from(
    [None, True, -1, 0, 1.5, 1e308, 10**30, "x", "", "nan", [], {}, [1], ["x"], [{}], {"a": 1}]
) | st.text(max_size=3)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of one epoch that remembers as much as a run can, and the settings to go on with."""
    recipe = {"schedule": "plateau", "patience": 3, "precision": "fp16", "ema_decay": 0.9, "lr": 0.01}
    asked = TrainSettings(
        network="linear", out=tmp_path_factory.mktemp("begun") / "run", epochs=2, batch_size=12, **recipe
    )
    train(asked.changed(epochs=1), data=DATA)
    shutil.copytree(asked.out, asked.out.with_name("kept"))
    return asked


def go_on(begun, change):
    shutil.rmtree(begun.out)
    shutil.copytree(begun.out.with_name("kept"), begun.out)
    manifest = Run(begun.out).bundle_paths()[-1] / "manifest.json"
    raw = json.loads(manifest.read_text())
    change(raw)
    manifest.write_text(json.dumps(raw))
    train(begun, data=DATA)


@pytest.mark.timeout(120)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_mutated_manifest_is_gone_on_from_or_a_cutaway_error(begun, data):
    def change(raw):
        node = raw
        while True:
            key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
                node = node[key]
                continue
            node[key] = data.draw(VALUES)
            break

    with contextlib.suppress(CutawayError):
        go_on(begun, change)


@pytest.mark.parametrize(
    ("name", "value"),
    [("scale", None), ("scale", 10**400), ("growth_interval", "x"), ("backoff_factor", []), ("_growth_tracker", -1)],
)
def test_a_gradient_scaler_s_memory_that_makes_no_sense_is_told(begun, name, value):
    """It failed in torch, in the middle of the first step."""
    with pytest.raises(BundleError, match="gradient scaler"):
        go_on(begun, lambda raw: raw["state"]["scaler"].update({name: value}))


def test_a_step_beyond_any_training_is_told(begun):
    with pytest.raises(BundleError, match=r"progress\.step"):
        go_on(begun, lambda raw: raw["progress"].update(step=10**30))


@pytest.mark.parametrize("level", [-0.5, 1.5, 1e308])
def test_a_mean_that_no_picture_has_is_no_reason_to_fail(begun, level):
    """Weights from elsewhere may be used to one, and what augmentation fills in was computed from it."""
    with contextlib.suppress(CutawayError):  # as the loss may be no number
        go_on(begun, lambda raw: raw["preprocessing"].update(mean=[level]))
