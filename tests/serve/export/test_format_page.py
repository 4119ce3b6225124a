"""docs/onnx-format.md against real exports, and a reader and a writer that know the page alone."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from cutaway.preprocessing import Preprocessing
from cutaway.serve.classifier import Classifier
from cutaway.serve.examples import ExampleIndex
from cutaway.serve.export import export_module
from cutaway.serve.export.conversion import OPSETS
from cutaway.serve.metadata import FORMAT_VERSION, Metadata

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "onnx-format.md").read_text(encoding="utf-8")
KINDS = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "bool": TensorProto.BOOL}
PIXELS = np.array([[51, 255], [153, 102]], np.uint8)  # x = 0.2, 1, 0.6, 0.4


def table(name: str) -> list[list[str]]:
    """The rows of the page's table whose first column has that name."""
    lines = PAGE.split(f"\n| {name} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[re.sub("^`([^`]*)`$", r"\1", cell.strip()) for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture(scope="module")
def files(worked_out_kind, tmp_path_factory):
    """The least and the most that a file has: of floats without a heat-map, and of pixels with everything."""
    worked_out, folder = worked_out_kind(), tmp_path_factory.mktemp("files")
    spec = Preprocessing(size=(2, 2), color="grey", mean=(0.0,), std=(1.0,))
    pictures = [np.full((2, 2, 1), 9, np.uint8)]
    least, most = (folder / name for name in ("least.onnx", "most.onnx"))
    export_module(worked_out, spec, "ab", least, images=pictures, explain=False, input_form="float")
    more = {"target_layer": "conv", "layers": ["conv", "out"], "temperature": 2.0}
    export_module(worked_out, spec, "ab", most, images=pictures, **more)
    return least, most


def test_every_key_of_the_page_is_in_a_file_and_every_key_of_a_file_on_the_page(files):
    keys = [key for key, *_ in table("key")]
    for file in files:
        assert [entry.key for entry in onnx.load(file).metadata_props] == keys
    needed = {f"cutaway.{name}" for name, field in Metadata.model_fields.items() if field.is_required()}
    assert {key for key, _, said in table("key") if said.endswith("; needed")} == needed


def test_every_input_and_output_is_on_the_page_with_its_type_and_shape(files):
    is_of = {"least": "float", "most": "pixels"}
    for file in files:
        graph, is_whole = onnx.load(file).graph, file.stem == "most"
        expected = [
            (name, KINDS[kind], shape.count(",") + 1)
            for name, kind, shape, said in (*table("input"), *table("output"))
            if (name != "images" or f"is `{is_of[file.stem]}`" in said)
            and (is_whole or name in ("images", "logits", "probabilities"))
            and name != "features.LAYER"
        ]
        tensors = {value.name: value.type.tensor_type for value in (*graph.input, *graph.output)}
        features = {name: tensors.pop(name) for name in list(tensors) if name.startswith("features.")}
        assert [(name, type_.elem_type, len(type_.shape.dim)) for name, type_ in tensors.items()] == expected
        assert list(features) == (["features.conv", "features.out"] if is_whole else [])
        assert all(type_.elem_type == TensorProto.FLOAT for type_ in features.values())


def test_the_schema_is_that_of_the_code():
    schema = json.loads((DOCS / "onnx-metadata.schema.json").read_text(encoding="utf-8"))
    assert schema == Metadata.model_json_schema(), (
        "write Metadata.model_json_schema() to docs/onnx-metadata.schema.json"
    )
    row = next(said for key, _, said in table("key") if key == "cutaway.preprocessing")
    assert set(re.findall(r"`(\w+)`", row)) == {*Preprocessing.model_fields, "pad"}


def test_versions_and_the_index_of_examples_are_those_of_the_code():
    assert f"describes format {FORMAT_VERSION}." in PAGE
    assert f"opset {OPSETS[0]} to {OPSETS[-1]}" in PAGE
    index = ExampleIndex.model_validate_json(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    assert index.model_dump(mode="json") == json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])


PLACE = b"\x0a\x0ecutaway.sha256\x12\x40"


def read(path, picture, class_index):
    """A reader made from the page alone: uint8 [H, W, 3] -> its metadata, and its outputs by name."""
    data = path.read_bytes()
    assert data.count(PLACE) == 1
    start = data.index(PLACE) + len(PLACE)
    unsealed = data[:start] + b"0" * 64 + data[start + 64 :]
    assert hashlib.sha256(unsealed).hexdigest().encode() == data[start : start + 64]

    properties = {entry.key: entry.value for entry in onnx.load_from_string(data).metadata_props}
    said = {key: json.loads(value) for key, value in properties.items() if key != "cutaway.sha256"}
    assert said["cutaway.format"] == 1
    assert said["cutaway.verification"]["verdict"] == "passed"
    assert said["cutaway.external_data"] is None

    images = picture[None]
    if said["cutaway.input"] == "float":
        described = said["cutaway.preprocessing"]
        assert described["color"] == "grey"
        assert list(picture.shape[:2]) == described["size"]  # so no resize and no crop
        grey = (picture.astype(np.int64) @ [19595, 38470, 7471] + 32768) >> 16
        images = ((np.float32(grey) / 255 - described["mean"][0]) / described["std"][0])[None, None]
    feed = {"images": images.astype(np.uint8 if said["cutaway.input"] == "pixels" else np.float32)}
    if said["cutaway.method"] is not None:
        feed["class_index"] = np.array([class_index], np.int64)
    session = ort.InferenceSession(data)
    names = [output.name for output in session.get_outputs()]
    return said, dict(zip(names, session.run(names, feed), strict=True))


def test_a_reader_made_from_the_page_gets_the_answers_that_are_worked_out_by_hand(files, tmp_path):
    picture = np.repeat(PIXELS[:, :, None], 3, axis=2)
    # Means of x and of max(0.5 - x, 0), times the matrix.
    means = np.array([2.2 / 4, 0.4 / 4])
    logits = means @ np.array([[1.0, 3.0], [2.0, -1.0]])
    for file in files:
        said, answers = read(file, picture, -1)
        divided = np.exp(logits / (said["cutaway.temperature"] or 1))
        np.testing.assert_allclose(answers["logits"], [logits], atol=1e-6)
        np.testing.assert_allclose(answers["probabilities"], [divided / divided.sum()], atol=1e-6)
    maps = np.stack([PIXELS / 255, 0.5 - PIXELS / 255])
    np.testing.assert_allclose(answers["features.conv"], [maps], atol=1e-6)
    np.testing.assert_allclose(answers["features.out"], [logits], atol=1e-6)
    # Of the second class, on top: gradients of 3 / 4 where x is positive, and of -1 / 4 where 0.5 - x is, twice.
    np.testing.assert_allclose(answers["heatmap"], [np.maximum(0.75 * maps[0] - 0.125 * maps[1], 0)], atol=1e-6)
    assert answers["heatmap_faint"].tolist() == [False]
    altered = tmp_path / "altered.onnx"
    altered.write_bytes(files[1].read_bytes().replace(b'["a","b"]', b'["b","a"]'))
    with pytest.raises(AssertionError):
        read(altered, picture, -1)


def test_a_file_written_from_the_page_alone_is_read(tmp_path):
    says = {
        "format": 1,
        "input": "pixels",
        "classes": ["dark", "light"],
        "preprocessing": {"size": [4, 4], "mean": [0, 0, 0], "std": [1, 1, 1]},
        "network": "mean",
        "verification": {"data": "nothing", "thresholds": {}},
    }
    value = helper.make_tensor_value_info
    # The mean of all pixels speaks for "light", and its opposite for "dark".
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["colors"], keepdims=0),
        helper.make_node("MatMul", ["colors", "signs"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    tensors = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("signs", TensorProto.FLOAT, [3, 2], [-1.0, 1.0] * 3),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [value("images", TensorProto.UINT8, ["N", "H", "W", 3])],
        [value(name, TensorProto.FLOAT, ["N", 2]) for name in ("logits", "probabilities")],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    properties = {f"cutaway.{name}": json.dumps(value) for name, value in says.items()}
    helper.set_model_props(model, properties | {"cutaway.sha256": "0" * 64})
    data = model.SerializeToString()
    place = data.index(PLACE) + len(PLACE)
    sealed = data[:place] + hashlib.sha256(data).hexdigest().encode() + data[place + 64 :]
    (tmp_path / "mean.onnx").write_bytes(sealed)
    classifier = Classifier(tmp_path / "mean.onnx")
    (answer,) = classifier([np.full((4, 4, 3), 200, np.uint8)])
    assert [score.label for score in answer.top] == ["light", "dark"]
    assert answer.heatmap is None
