"""Plain classifiers of other tools: the mean colour times a matrix, as they would write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cutaway.errors import ServingError
from cutaway.preprocessing.spec import Preprocessing
from cutaway.serve.classifier import Classifier

CLASSES = ("red", "green", "blue", "grey")
WEIGHTS = np.array([[6, -3, -3], [-3, 6, -3], [-3, -3, 6], [0.5, 0.5, 0.5]], np.float32)
PLAIN = Preprocessing(size=(8, 6), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
RED = np.full((20, 30, 3), (255, 0, 0), np.uint8)
BLUE = np.full((5, 5, 3), (0, 0, 255), np.uint8)


def foreign(
    folder: Path,
    shape: Any = ("batch", 3, 8, 6),
    end: str | None = None,
    *,
    kind: int = TensorProto.FLOAT,
    outputs: dict[str, Any] | None = None,
    inputs: dict[str, Any] | None = None,
    domain: str = "",
) -> Path:
    """A file: `end` names the operator after the matrix; `outputs` and `inputs` are further ones, name to shape."""
    spatial = [1, 2] if shape[-1] == 3 else list(range(2, len(shape)))
    floats = "pixel values" if kind == TensorProto.FLOAT else "as floats"
    scores = "logits" if end else "what it thinks"
    nodes = [
        helper.make_node("ReduceMean", [floats, "spatial"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], [scores], domain=domain),
    ]
    if kind != TensorProto.FLOAT:
        nodes.insert(0, helper.make_node("Cast", ["pixel values"], [floats], to=TensorProto.FLOAT))
    if end == "SoftmaxByHand":
        nodes.append(helper.make_node("Exp", [scores], ["e"]))
        nodes.append(helper.make_node("ReduceSum", ["e", "last"], ["s"], keepdims=1))
        nodes.append(helper.make_node("Div", ["e", "s"], ["what it thinks"]))
    elif end == "Softmax":
        nodes.append(helper.make_node("Softmax", [scores], ["p"], axis=-1))
        nodes.append(helper.make_node("Identity", ["p"], ["what it thinks"]))
    elif end == "Compress":  # of which nobody knows beforehand how much it leaves
        nodes.append(helper.make_node("Compress", [scores, "all"], ["what it thinks"], axis=1))
    elif end:
        nodes.append(helper.make_node(end, [scores], ["what it thinks"]))
    nodes += [helper.make_node("Identity", ["what it thinks"], [name]) for name in outputs or {}]
    constants = {"weights": WEIGHTS.T.copy(), "spatial": np.array(spatial), "last": np.array([-1])}
    constants |= {"all": np.ones(4, bool)} if end == "Compress" else {}
    batch = shape[0]
    infos = {"what it thinks": (batch, 4)} | (outputs or {})
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("pixel values", kind, list(shape)),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, s) for name, s in (inputs or {}).items()),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(s)) for name, s in infos.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    path = folder / "other.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    return path


def load(path: Path, **changes: Any) -> Classifier:
    return Classifier(path, **({"provider": "cpu", "classes": CLASSES, "preprocessing": PLAIN} | changes))


@pytest.mark.parametrize(
    "shape",
    [
        ("batch", 3, 8, 6),
        (1, 3, 8, 6),
        (4, 3, 8, 6),
        ("N", 3, "h", "w"),
        ("N", "C", "h", "w"),
        ("N", 8, 6, 3),
        (2, "h", "w", 3),
    ],
)
@pytest.mark.parametrize("end", [None, "Softmax", "SoftmaxByHand", "LogSoftmax"])
def test_answers_worked_out_by_hand_whatever_its_input_and_its_end(tmp_path, shape, end) -> None:
    answers = load(foreign(tmp_path, shape, end))([RED, BLUE, RED], top_k=2)

    expected = np.exp([6, -3, -3, 0.5]) / np.exp([6, -3, -3, 0.5]).sum()
    np.testing.assert_allclose(answers[0].probabilities, expected, atol=1e-6)
    np.testing.assert_allclose(answers[2].probabilities, expected, atol=1e-6)
    assert [answer.top[0].label for answer in answers] == ["red", "blue", "red"]
    assert answers[0].heatmap is None
    assert answers[0].explained is None


def test_what_a_file_says_can_be_overruled(tmp_path) -> None:
    path = foreign(tmp_path, end="Softmax")
    p = np.exp([6, -3, -3, 0.5]) / np.exp([6, -3, -3, 0.5]).sum()
    np.testing.assert_allclose(load(path, scores="logits")([RED])[0].probabilities, np.exp(p) / np.exp(p).sum(), 1e-5)
    with pytest.raises(ServingError, match=r"not probabilities.*--scores logits"):
        load(foreign(tmp_path), scores="probabilities")
    with pytest.raises(ServingError, match="sigmoid"):
        load(foreign(tmp_path, end="Sigmoid"))
    assert load(foreign(tmp_path, end="Sigmoid"), scores="logits")([RED])[0].top[0].label == "red"
    with pytest.raises(ServingError, match="no scores 'odds'"):
        load(path, scores="odds")


def test_it_is_normalised_as_said(tmp_path) -> None:
    said = Preprocessing(size=(8, 6), mean=(0.5, 0.0, 0.0), std=(0.25, 1.0, 1.0))
    answer = load(foreign(tmp_path), preprocessing=said)([RED])[0]
    logits = WEIGHTS @ np.array([2.0, 0.0, 0.0])
    np.testing.assert_allclose(answer.probabilities, np.exp(logits) / np.exp(logits).sum(), atol=1e-6)


def test_half_precision_is_fed_and_read(tmp_path) -> None:
    model = onnx.load(foreign(tmp_path, end="Softmax"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        if tensor.name == "weights":
            tensor.CopyFrom(numpy_helper.from_array(WEIGHTS.T.astype(np.float16), "weights"))
    onnx.save(model, tmp_path / "half.onnx")
    answer = load(tmp_path / "half.onnx")([RED])[0]
    assert answer.top[0].label == "red"
    assert answer.probabilities.dtype == np.float32


def test_it_says_that_nobody_verified_it(tmp_path) -> None:
    metadata = load(foreign(tmp_path)).metadata
    assert metadata.verification.verdict == "not verified"
    assert (metadata.network, metadata.bundle, metadata.explains) == ("other", "", False)


def test_of_several_outputs_the_softmax_is_taken(tmp_path) -> None:
    path = foreign(tmp_path, outputs={"features": ("batch", 7)})
    model = onnx.load(path)
    model.graph.output[1].type.tensor_type.shape.dim[1].dim_value = 7
    model.graph.node[-1].CopyFrom(helper.make_node("Concat", ["what it thinks", "mean"], ["features"], axis=1))
    onnx.save(model, path)
    assert load(path)([BLUE])[0].top[0].label == "blue"
    with pytest.raises(ServingError, match="cannot be told"):
        load(foreign(tmp_path, outputs={"twin": ("batch", 4)}))


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ({}, {"classes": CLASSES[:3]}, r"none is \[N, 3\]"),
        ({}, {"classes": ()}, "No classes"),
        ({}, {"preprocessing": PLAIN.model_copy(update={"size": (9, 6)})}, "8x6 .* 9x6"),
        ({}, {"preprocessing": Preprocessing(size=(8, 6), color="grey", mean=(0,), std=(1,))}, "1 channel"),
        ({"shape": ("N", 3, 8)}, {}, "and pictures are"),
        ({"kind": TensorProto.UINT8}, {}, "uint8"),
        ({"kind": TensorProto.INT64}, {}, "int64"),
        ({"inputs": {"mask": [1]}}, {}, r"2 inputs \(pixel values, mask\)"),
        ({"domain": "evil.ops"}, {}, "evil.ops.MatMul"),
        ({}, {"classes": None}, "both its classes and its preprocessing"),
        ({}, {"preprocessing": None}, "both its classes and its preprocessing"),
        ({}, {"classes": None, "preprocessing": None}, "not made by cutaway"),
        ({}, {"preprocessing": Preprocessing(size=(9000, 9000), mean=(0,) * 3, std=(1,) * 3)}, "million"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(tmp_path, file, changes, said) -> None:
    with pytest.raises(ServingError, match=said) as caught:
        load(foreign(tmp_path, **file), **changes)
    assert "\n" not in str(caught.value)


def test_an_open_number_of_outputs_is_counted_when_it_runs(tmp_path) -> None:
    model = onnx.load(foreign(tmp_path, end="Compress"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "K"
    onnx.save(model, tmp_path / "open.onnx")
    assert load(tmp_path / "open.onnx")([RED])[0].top[0].label == "red"
    with pytest.raises(ServingError, match=r"\[3, 4\] for 3 pictures, and 5 classes"):
        load(tmp_path / "open.onnx", classes=(*CLASSES, "black"))


def test_weights_in_other_files_are_never_opened(tmp_path) -> None:
    model = onnx.load(foreign(tmp_path))
    (tmp_path / "w.bin").write_bytes(WEIGHTS.T.tobytes())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    (tmp_path / "split.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ServingError, match="other files"):
        load(tmp_path / "split.onnx")


def test_operators_that_are_written_out_in_the_file_are_no_strangers(tmp_path) -> None:
    model = onnx.load(foreign(tmp_path, domain="pkg.layers"))
    body = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("pkg.layers", "MatMul", ["a", "b"], ["c"], body, opsets))
    onnx.save(model, tmp_path / "functions.onnx")
    assert load(tmp_path / "functions.onnx")([BLUE])[0].top[0].label == "blue"
    model.functions[0].node[0].domain = "evil.ops"
    onnx.save(model, tmp_path / "functions.onnx")
    with pytest.raises(ServingError, match=r"evil\.ops\.MatMul, which is not a standard one"):
        load(tmp_path / "functions.onnx")


def test_an_operator_that_opens_files_is_refused(tmp_path) -> None:
    model = onnx.load(foreign(tmp_path))
    model.graph.node.append(
        helper.make_node("EPContext", ["mean"], ["x"], domain="com.microsoft", ep_cache_context="/etc/passwd")
    )
    onnx.save(model, tmp_path / "context.onnx")
    with pytest.raises(ServingError, match=r"com\.microsoft\.EPContext, which is not a standard one"):
        load(tmp_path / "context.onnx")


def test_a_file_of_ours_says_itself_what_it_is(model_path) -> None:
    with pytest.raises(ServingError, match="made by cutaway"):
        load(model_path)
    with pytest.raises(ServingError, match="made by cutaway"):
        Classifier(model_path, scores="logits")
