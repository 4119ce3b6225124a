"""Whatever happens to a file's bytes, the classifier answers in a sentence: no traceback, no gigabytes, no hanging."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutaway.errors import CutawayError
from cutaway.serve import metadata as described
from cutaway.serve.classifier import Classifier
from cutaway.serve.metadata import seal

PICTURE = np.full((9, 7, 3), (255, 0, 0), np.uint8)
SLOWEST_S = 5.0


def load(data: bytes, folder: Path) -> Classifier | None:
    """The classifier of these bytes, asked once; None where it refuses them in words."""
    path = folder / "mutant.onnx"
    path.write_bytes(data)
    began = time.process_time()
    try:
        classifier = Classifier(path, provider="cpu", threads=1)
        classifier([PICTURE])
    except CutawayError as error:
        assert 0 < len(error.message) < 2000  # noqa: PT017 - any other error is the failure
        classifier = None
    assert time.process_time() - began < SLOWEST_S
    return classifier


def resealed(data: bytes) -> bytes | None:
    """With a right seal again, as whoever alters a file on purpose writes; None where its place is gone."""
    found = data.find(described._SEAL_MARKER)
    if found < 0:
        return None
    start = found + len(described._SEAL_MARKER)
    try:
        return seal(data[:start] + b"0" * 64 + data[start + 64 :])
    except CutawayError:
        return None


@pytest.fixture(scope="module")
def bytes_of_a_file(model_path) -> bytes:
    return model_path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damage")


@pytest.fixture(autouse=True)
def _bounded_memory():
    """A file of a few kilobytes may not take more than this on top of what the process has already."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_flipped_cut_and_doubled_bytes(bytes_of_a_file, folder, data) -> None:
    mutant = bytearray(bytes_of_a_file)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutant) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "double", "insert"]))
        if kind == "flip":
            mutant[at] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del mutant[at : at + data.draw(st.integers(1, 200))]
        elif kind == "double":
            mutant[at:at] = mutant[at : at + 50]
        else:
            mutant[at:at] = data.draw(st.binary(min_size=1, max_size=8))
        if not mutant:
            break
    assert load(bytes(mutant), folder) is None or bytes(mutant) == bytes_of_a_file


def test_bytes_that_were_altered_on_purpose_and_sealed_again(bytes_of_a_file, folder) -> None:
    chance = random.Random(0)
    loaded = 0
    for _ in range(400):
        mutant = bytearray(bytes_of_a_file)
        for _ in range(chance.choice((1, 1, 2, 8))):
            mutant[chance.randrange(len(mutant))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        sealed = resealed(bytes(mutant))
        loaded += sealed is not None and load(sealed, folder) is not None
    assert loaded > 10  # of texts that nothing hangs on, and of weights


VALUES = (
    "",
    "null",
    "0",
    "-1",
    "1e999",
    "[]",
    "{}",
    '""',
    '"x"',
    "[" * 5000,
    "9" * 5000,
    "NaN",
    '"\\ud800"',
    "\x00",
    "true",
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value[:9]))
def test_metadata_of_any_other_value(bytes_of_a_file, folder, value) -> None:
    for number in range(len(onnx.load_from_string(bytes_of_a_file).metadata_props)):
        model = onnx.load_from_string(bytes_of_a_file)
        if model.metadata_props[number].key != "cutaway.sha256":
            model.metadata_props[number].value = value
            load(seal(_blank(model)), folder)


def test_graphs_that_are_altered_field_by_field(bytes_of_a_file, folder, capfd) -> None:
    chance = random.Random(1)
    for _ in range(300):
        model = onnx.load_from_string(bytes_of_a_file)
        for _ in range(chance.choice((1, 1, 3))):
            _alter(model, chance)
        load(seal(_blank(model)), folder)
    assert capfd.readouterr() == ("", "")


def _blank(model: onnx.ModelProto) -> bytes:
    """The file with 64 zeros for a seal."""
    for prop in model.metadata_props:
        if prop.key == "cutaway.sha256":
            prop.value = "0" * 64
    return model.SerializeToString()


def _alter(message: Any, chance: random.Random) -> None:
    """Changes one field, found by going down the message at random."""
    fields = [(field, value) for field, value in message.ListFields() if field.name != "metadata_props"]
    if not fields:
        return
    field, value = chance.choice(fields)
    repeated = hasattr(value, "append")
    if field.message_type is not None:
        below = chance.choice(value) if repeated else value
        if chance.random() < 0.15 and repeated:
            value.remove(below) if chance.random() < 0.5 else value.append(below)
        else:
            _alter(below, chance)
        return
    number = chance.choice((0, 1, -1, 2, 7, 2**31 - 1, -(2**31), 2**62, -(2**63)))
    replacement: Any
    if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_INT32, field.CPPTYPE_ENUM):
        replacement = number if field.cpp_type == field.CPPTYPE_INT64 else max(-(2**31), min(number, 2**31 - 1))
    elif field.cpp_type == field.CPPTYPE_FLOAT:
        replacement = chance.choice((0.0, float("nan"), float("inf"), -1e30))
    elif field.type == field.TYPE_BYTES:
        replacement = chance.choice((b"", b"\xff" * 8, b"\x00" * 100))
    else:
        replacement = chance.choice(("", "x", "images", "Loop", "Softmax", "é\x00", "a" * 3000))
    try:
        if repeated:
            value[chance.randrange(len(value))] = replacement
        else:
            setattr(message, field.name, replacement)
    except (ValueError, TypeError):  # an enumeration that protobuf itself holds to its values
        return
