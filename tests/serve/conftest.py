"""A small network whose answers can be worked out by hand: the mean colour, times a matrix."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from cutaway.preprocessing.spec import Preprocessing
from cutaway.serve.metadata import Feature, Metadata, Verification, seal, to_properties

CLASSES = ("red", "green", "blue", "grey")
WEIGHTS = np.array([[6, -3, -3], [-3, 6, -3], [-3, -3, 6], [0.5, 0.5, 0.5]], np.float32)

MakeModel = Callable[..., Path]


def metadata(**changes: Any) -> Metadata:
    fields: dict[str, Any] = {
        "classes": CLASSES,
        "preprocessing": Preprocessing(size=(8, 8), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        "network": "mean-color",
        "target_layer": "pixels",
        "method": "grad-cam",
        "bundle": "ab" * 32,
        "metrics": {"valid/accuracy": 0.875},
        "versions": {"cutaway": "0.1.0"},
        "verification": Verification(data="16 pictures of the test split", thresholds={"probabilities": 1e-5}),
    }
    return Metadata(**(fields | changes))


def onnx_model(described: Metadata, weights: np.ndarray = WEIGHTS, faint: bool = False) -> Any:
    """The mean colour, times a matrix, with the true Grad-CAM at the pixels: gradient w_k / (h w), times the pixel."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    pixels = described.input == "pixels"
    image_type, image_shape = (
        (TensorProto.UINT8, ["N", "H", "W", 3]) if pixels else (TensorProto.FLOAT, ["N", 3, "h", "w"])
    )
    inputs = [helper.make_tensor_value_info("images", image_type, image_shape)]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", len(weights)])
        for name in ("logits", "probabilities")
    ]
    constants = {"weights": weights.T.copy(), "rows": weights, "scale": np.float32(255), "spatial": np.array([1, 2])}
    constants |= {"last": np.array([-1]), "zero": np.int64(0), "three": np.array([3])}
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "scale"], ["colors"])
        if pixels
        else helper.make_node("Transpose", ["float"], ["colors"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceMean", ["colors", "spatial"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    if described.explains:
        inputs.append(helper.make_tensor_value_info("class_index", TensorProto.INT64, ["N"]))
        outputs.append(helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["N", "h", "w"]))
        nodes += [
            helper.make_node("ArgMax", ["logits"], ["top"], axis=1, keepdims=0),
            helper.make_node("Less", ["class_index", "zero"], ["automatic"]),
            helper.make_node("Where", ["automatic", "top", "class_index"], ["target"]),
            helper.make_node("Gather", ["rows", "target"], ["gradient"], axis=0),
            helper.make_node("Unsqueeze", ["gradient", "spatial"], ["spread"]),
            helper.make_node("Mul", ["colors", "spread"], ["products"]),
            helper.make_node("ReduceSum", ["products", "three"], ["evidence"], keepdims=0),
            helper.make_node("Relu", ["evidence"], ["heatmap"]),
        ]
    if faint:  # as if all maps were
        outputs.append(helper.make_tensor_value_info("heatmap_faint", TensorProto.BOOL, ["N"]))
        nodes.append(helper.make_node("Equal", ["target", "target"], ["heatmap_faint"]))
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "mean_color", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.helper.set_model_props(model, to_properties(described))
    return model


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Writes a sealed file; keyword arguments change its metadata, `edit` its graph, `weights` its matrix.

    With `faint` it says of every heat-map that it is faint; without, it says nothing of them, as the first files did.
    """

    def make(
        edit: Callable[[Any], None] | None = None, weights: np.ndarray = WEIGHTS, faint: bool = False, **changes: Any
    ) -> Path:
        model = onnx_model(metadata(**changes), weights, faint)
        if edit is not None:
            edit(model)
        path = tmp_path_factory.mktemp("model") / "model.onnx"
        path.write_bytes(seal(model.SerializeToString()))
        return path

    return make


def _with_features(model: Any) -> None:
    """Gives a map for each colour, and the mean of each minus 0.5."""
    from onnx import TensorProto, helper, numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "half"))
    model.graph.node.extend(
        [
            helper.make_node("Transpose", ["colors"], ["features.colors"], perm=[0, 3, 1, 2]),
            helper.make_node("Sub", ["mean", "half"], ["features.mean"]),
        ]
    )
    for name, shape in (("features.colors", ["N", 3, "h", "w"]), ("features.mean", ["N", 3])):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


FEATURES = (
    Feature(output="features.colors", layer="colors", layout="maps", shape=(3, 8, 8)),
    Feature(output="features.mean", layer="mean", layout="as it is", shape=(3,)),
)


@pytest.fixture(scope="session")
def featured_model(make_model: MakeModel) -> Path:
    """A file that also gives a map for each colour, and the mean of each minus 0.5."""
    return make_model(_with_features, features=FEATURES)


@pytest.fixture(scope="session")
def model_path(make_model: MakeModel) -> Path:
    return make_model()


def _endless_for_white(model: Any) -> None:
    """A loop that turns once for each picture that is not all white, and some 10^15 times for a white one."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["still"]), helper.make_node("Identity", ["before"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    loop = [
        helper.make_node("ReduceMin", ["mean"], ["darkest"], keepdims=0),
        helper.make_node("Floor", ["darkest"], ["is_white"]),
        helper.make_node("Cast", ["is_white"], ["white"], to=TensorProto.INT64),
        helper.make_node("Mul", ["white", "very_often"], ["many"]),
        helper.make_node("Add", ["many", "once"], ["turns"]),
        helper.make_node("Loop", ["turns", "", "mean"], ["looped"], body=body),
    ]
    at = next(i for i, node in enumerate(graph.node) if node.op_type == "MatMul")
    graph.node[at].input[0] = "looped"
    for node in reversed(loop):
        graph.node.insert(at, node)
    graph.initializer.append(numpy_helper.from_array(np.array(10**15), "very_often"))
    graph.initializer.append(numpy_helper.from_array(np.array(1), "once"))


@pytest.fixture(scope="session")
def endless_model(make_model: MakeModel) -> Path:
    """A file whose network runs for hours on a white picture, and at once on any other."""
    return make_model(edit=_endless_for_white)


@pytest.fixture(scope="session")
def endless_featured_model(make_model: MakeModel) -> Path:
    """The same, with feature maps that come after the loop."""

    def edit(model: Any) -> None:
        _with_features(model)
        _endless_for_white(model)

    return make_model(edit, features=FEATURES)


Color = Literal["red", "green", "blue", "grey"]


def picture(color: Color, height: int = 8, width: int = 8) -> np.ndarray:
    value = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (128, 128, 128)}[color]
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture(scope="session")
def pictures() -> Callable[..., np.ndarray]:
    return picture


Messages = list[dict[str, Any]]


@pytest.fixture(scope="session")
def ask() -> Callable[..., Messages]:
    """What a browser does when an event of the component of this elem_id fires: the messages until the answer is whole.

    `ask(client, "many-files", "change", data)`, with `event_data` where the event carries some.
    """

    def ask(client: Any, target: str, event: str, data: list[Any], event_data: Any = None) -> Messages:
        config = client.get("/config").json()
        ids = {block["props"].get("elem_id"): block["id"] for block in config["components"]}
        (number,) = [each["id"] for each in config["dependencies"] if [ids[target], event] in each["targets"]]
        session = uuid.uuid4().hex
        body = {"data": data, "event_data": event_data, "fn_index": number, "session_hash": session}
        joined = client.post("/gradio_api/queue/join", json=body)
        assert joined.status_code == 200, joined.text
        lines = client.get(f"/gradio_api/queue/data?session_hash={session}").text.splitlines()
        messages = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        end = next(i for i, message in enumerate(messages) if message["msg"] == "process_completed")
        return messages[: end + 1]

    return ask


@pytest.fixture(scope="session")
def fashion_split() -> Any:
    """The embedded sample's test split."""
    pytest.importorskip("torch")
    from cutaway import datasets

    return datasets.load("fashion-mnist-sample").test


@pytest.fixture(scope="session")
def fashion_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real file of the project's own export: fixed filters under a head that is solved for, not trained."""
    torch = pytest.importorskip("torch")
    from cutaway import datasets
    from cutaway.preprocessing.tensors import Preprocess
    from cutaway.serve.export import export_module

    data = datasets.load("fashion-mnist-sample")
    preprocessing = Preprocessing(size=(28, 28), color="grey", mean=(0.286,), std=(0.353,))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        filters = torch.nn.Sequential(torch.nn.Conv2d(1, 12, 5, stride=2), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
        features = filters(Preprocess(preprocessing)(torch.from_numpy(data.train.images))).flatten(1)
        head = torch.nn.Linear(features.shape[1], len(data.classes))
        targets = torch.nn.functional.one_hot(torch.from_numpy(data.train.labels)).float() * 10
        ridge = features.t() @ features + 100 * torch.eye(features.shape[1])
        head.weight.copy_(torch.linalg.solve(ridge, features.t() @ (targets - 1)).t())
        head.bias.fill_(1.0)
    network = torch.nn.Sequential(*filters, torch.nn.Flatten(), head)
    path = tmp_path_factory.mktemp("fashion") / "fashion.onnx"
    images = [data.test.image(i) for i in range(8)]
    export_module(network, preprocessing, data.classes, path, images=images, layers=["1", "4"])
    return path


# WCAG 2 contrast of an element's text against the nearest background that is not transparent.
CONTRAST = """(element) => {
    const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (color) => color.slice(0, 3).map((v) => v / 255)
        .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    let behind = element, background = [255, 255, 255, 1];
    while (behind) {
        const color = rgb(getComputedStyle(behind).backgroundColor);
        if (color.length === 3 || color[3] > 0) { background = color; break; }
        behind = behind.parentElement;
    }
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(background)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
}"""


@pytest.fixture
def contrast():
    """Of the text at a locator of Playwright's, as a ratio."""
    return lambda locator: locator.evaluate(CONTRAST)


@pytest.fixture(scope="session")
def classes_in():
    """The classes that the page's answer names, the most probable first."""
    return lambda html: re.findall(r'class="cw-label"><bdi>([^<]*)<', html)
