"""Bundles of older schemas are read for ever: a stored one of each under test, answers worked out without our code."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from cutaway.checkpoints import restore, verify_bundle
from cutaway.checkpoints.manifest import SCHEMA_VERSION
from cutaway.checkpoints.migrations import MIGRATIONS, migrate
from cutaway.errors import BundleError

FIXTURES = Path(__file__).parent / "fixtures"
SCHEMA_1 = FIXTURES / "schema-1" / "checkpoints" / "step-00000085-validated"
# Its answer to sixteen values from -1 to 2, worked out once from the stored weights with numpy alone.
KNOWN = [-5.363, -4.329, -2.365, -2.897, -2.635, 1.544, -2.672, 2.045, 1.716, 0.209]
SCHEMA_2 = FIXTURES / "schema-2" / "checkpoints" / "step-00000085-validated"


def tensors_in(file):
    """A safetensors file by its specification, without the library."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"]).astype(np.float64)
        for name, entry in header.items()
        if name != "__metadata__"
    }


def test_the_stored_bundle_of_schema_1_answers_as_its_weights_say():
    weights = tensors_in(SCHEMA_1 / "model.safetensors")
    inputs = np.linspace(-1, 2, 16).reshape(1, 16)
    hidden = np.maximum(inputs @ weights["fc1.weight"].T + weights["fc1.bias"], 0)
    expected = hidden @ weights["out.weight"].T + weights["out.bias"]

    restored = restore(SCHEMA_1)
    answer = restored.network(torch.tensor(inputs, dtype=torch.float32).reshape(1, 1, 4, 4))
    np.testing.assert_allclose(answer.detach().numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(expected[0], KNOWN, atol=5e-4)
    assert expected.argmax() == np.argmax(KNOWN)


def test_the_stored_bundle_of_schema_1_comes_back_as_today_s():
    assert json.loads((SCHEMA_1 / "manifest.json").read_text())["schema_version"] == 1
    manifest = verify_bundle(SCHEMA_1)
    assert manifest.schema_version == SCHEMA_VERSION
    assert manifest.resumed == ()
    assert manifest.progress.step == 85
    assert manifest.network.arguments == {"hidden": 2}
    assert manifest.classes[9] == "Ankle boot"
    assert set(manifest.files) == {"model.safetensors", "optimizer.safetensors", "training.safetensors"}


def test_schema_2_keeps_the_history_of_resumes_and_schema_1_had_none():
    raw = json.loads((SCHEMA_1 / "manifest.json").read_text())
    migrated = migrate(raw, 2, "it")
    assert migrated == raw | {"schema_version": 2, "resumed": []}


def test_the_stored_bundle_of_schema_2_keeps_its_history_and_remembers_nothing():
    raw = json.loads((SCHEMA_2 / "manifest.json").read_text())
    assert raw["schema_version"] == 2
    assert "state" not in raw
    manifest = verify_bundle(SCHEMA_2)
    assert manifest.schema_version == SCHEMA_VERSION
    assert [(entry.step, entry.equality) for entry in manifest.resumed] == [(51, "bitwise")]
    assert manifest.state == {}
    assert restore(SCHEMA_2).network.fc1.weight.shape == (2, 16)


def test_every_older_schema_has_a_step_and_a_stored_bundle():
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION))
    assert {folder.name for folder in FIXTURES.iterdir()} >= {f"schema-{version}" for version in MIGRATIONS}


def test_steps_are_taken_in_order_and_the_given_values_stay(monkeypatch):
    monkeypatch.setitem(MIGRATIONS, 1, lambda raw: raw | {"told": [*raw["told"], "first"]})
    monkeypatch.setitem(MIGRATIONS, 2, lambda raw: raw | {"told": [*raw["told"], "second"]})
    raw = {"schema_version": 1, "told": []}
    assert migrate(raw, 3, "it") == {"schema_version": 3, "told": ["first", "second"]}
    assert migrate(raw | {"schema_version": 2}, 3, "it")["told"] == ["second"]
    assert raw == {"schema_version": 1, "told": []}


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (SCHEMA_VERSION + 1, f"schema {SCHEMA_VERSION + 1}"),
        (0, "0 is no version"),
        (-1, "-1"),
        (True, "True"),
        (1.0, "1.0"),
        ("1", "'1'"),
        (None, "None"),
    ],
)
def test_a_version_that_is_newer_or_never_was_is_refused_by_name(version, said):
    with pytest.raises(BundleError) as error:
        migrate({"schema_version": version}, SCHEMA_VERSION, "runs/x")
    assert said in error.value.message
    assert "runs/x" in error.value.message
    if version == SCHEMA_VERSION + 1:
        assert f"up to {SCHEMA_VERSION}" in error.value.message
        assert "Update" in error.value.hint
