"""The ONNX file's description of itself, and its seal, on real protobuf bytes."""

import hashlib
import json
import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from cutaway.errors import ServingError
from cutaway.preprocessing import Preprocessing, imagenet
from cutaway.serve.metadata import Metadata, Verification, check_seal, from_properties, seal, to_properties


def described(**changes) -> Metadata:
    values = {
        "classes": ("T-shirt/top", 'quote " and \n newline', "靴", "\n\x0ecutaway.sha256\x12@" + "0" * 64),
        "preprocessing": Preprocessing(size=(28, 28), color="grey", mean=(0.286,), std=(0.353,)),
        "network": "lenet5",
        "target_layer": "features.3",
        "method": "grad-cam",
        "bundle": "ab" * 32,
        "metrics": {"valid_accuracy": 0.1 + 0.2, "valid_loss": float("inf")},
        "confusion_matrix": [[5, 1, 0, 0], [0, 6, 0, 0], [1, 0, 2, 0], [0, 0, 0, 9]],
        "versions": {"torch": "2.15.0"},
        "verification": Verification(data="8 pictures", thresholds={"probability_difference": 1e-5}),
    }
    return Metadata(**(values | changes))


def file_with(metadata: Metadata) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph)
    helper.set_model_props(model, to_properties(metadata))
    return model.SerializeToString()


@pytest.mark.parametrize(
    "metadata",
    [
        described(),
        described(target_layer=None, method=None, confusion_matrix=None, input="float", metrics={}),
        described(preprocessing=imagenet(), metrics={"loss": float("-inf")}),
    ],
)
def test_metadata_survives_the_file(metadata):
    model = onnx.load_from_string(seal(file_with(metadata)))
    assert from_properties({p.key: p.value for p in model.metadata_props}) == metadata


def test_a_foreign_program_reads_the_properties_as_json():
    properties = to_properties(described())
    assert properties["cutaway.format"] == "1"
    assert properties["cutaway.network"] == '"lenet5"'
    assert properties["cutaway.sha256"] == "0" * 64
    assert json.loads(properties["cutaway.verification"])["thresholds"] == {"probability_difference": 1e-5}
    assert json.loads(properties["cutaway.metrics"])["valid_loss"] == "Infinity"


def test_the_seal_is_the_sha256_of_the_file_with_the_field_zeroed():
    blank = file_with(described())
    sealed = seal(blank)
    properties = {p.key: p.value for p in onnx.load_from_string(sealed).metadata_props}
    assert properties["cutaway.sha256"] == hashlib.sha256(blank).hexdigest()
    assert len(sealed) == len(blank)
    check_seal(sealed)
    assert seal(sealed) == sealed


def test_every_single_damaged_byte_is_noticed():
    sealed = seal(file_with(described()))
    for position in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 1
        with pytest.raises(ServingError, match=r"damaged|no cutaway seal"):
            check_seal(bytes(damaged))


def test_a_torn_and_an_unsealed_file_are_refused():
    sealed = seal(file_with(described()))
    for cut in (0, 10, len(sealed) // 2, len(sealed) - 1):
        with pytest.raises(ServingError):
            check_seal(sealed[:cut])
    with pytest.raises(ServingError, match="damaged"):
        check_seal(file_with(described()))
    with pytest.raises(ServingError, match="more than one"):
        check_seal(sealed + sealed)


def test_a_foreign_file_is_refused_by_name():
    with pytest.raises(ServingError, match="not made by cutaway"):
        from_properties({"producer": "someone"})
    for data, said in ((b"\x08\x0aanything", "no cutaway seal"), (b"\x89PNG", "no ONNX file"), (b"", "is empty")):
        with pytest.raises(ServingError, match=said):
            seal(data)


@pytest.mark.parametrize("version", ["2", "9" * 5000])
def test_a_newer_format_is_refused(version):
    with pytest.raises(ServingError, match="reads formats up to 1"):
        from_properties(to_properties(described()) | {"cutaway.format": version})


@pytest.mark.parametrize(
    "changes",
    [
        {"cutaway.format": "-1"},
        {"cutaway.format": "0"},
        {"cutaway.format": "²"},
        {"cutaway.classes": "[]"},
        {"cutaway.classes": "[1, 2]"},
        {"cutaway.classes": "no json"},
        {"cutaway.classes": "[" * 100_000},
        {"cutaway.preprocessing": "{}"},
        {"cutaway.confusion_matrix": "[[1]]"},
        {"cutaway.method": "null"},
        {"cutaway.verification": '{"verdict": "failed", "data": "", "thresholds": {}}'},
    ],
)
def test_damaged_metadata_is_a_sentence(changes):
    with pytest.raises(ServingError, match="damaged") as caught:
        from_properties(to_properties(described()) | changes)
    assert "http" not in str(caught.value)


def test_metadata_needs_neither_torch_nor_onnx():
    code = "import sys, cutaway.serve.metadata; assert not {'torch', 'onnx', 'onnxruntime'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
