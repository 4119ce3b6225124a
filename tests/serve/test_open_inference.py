"""The Open Inference Protocol, spoken by Triton's own client and by hand."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from cutaway.images import Limits, encode_png
from cutaway.serve import server
from cutaway.serve.api import ServingLimits, create_app
from cutaway.serve.classifier import Classifier
from cutaway.serve.models import model_name

triton = pytest.importorskip("tritonclient.http")


@pytest.fixture(scope="module")
def classifier(make_model) -> Classifier:
    return Classifier(make_model(), provider="cpu")


@pytest.fixture(scope="module")
def url(classifier) -> Iterator[str]:
    limits = ServingLimits(max_images=4, image=Limits(max_pixels=10_000))
    with server.running(create_app(classifier, page=False, name="colours", limits=limits)) as url:
        yield url


@pytest.fixture
def client(url) -> Iterator:
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        yield client


@pytest.fixture(scope="module")
def batch(pictures) -> np.ndarray:
    return np.stack([pictures("red", 10, 12), pictures("blue", 10, 12)])


def tensor(name: str, values: np.ndarray, kind: str, *, binary: bool):
    made = triton.InferInput(name, list(values.shape), kind)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def test_health_and_metadata(client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("colours")
    assert client.is_model_ready("colours", "1")
    assert not client.is_model_ready("colours", "2")
    assert client.get_server_metadata()["extensions"] == ["classification", "binary_tensor_data"]
    for version in ("", "1"):
        assert client.get_model_metadata("colours", version) == {
            "name": "colours",
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [
                {"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
                {"name": "class_index", "datatype": "INT64", "shape": [-1]},
            ],
            "outputs": [
                {"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]},
                {"name": "heatmap", "datatype": "FP32", "shape": [-1, -1, -1]},
            ],
        }


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tensors_come_back_as_the_classifier_gives_them(client, classifier, batch, binary_in, binary_out) -> None:
    inputs = [
        tensor("images", batch, "UINT8", binary=binary_in),
        tensor("class_index", np.array([3, -1]), "INT64", binary=binary_in),
    ]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("heatmap", "probabilities")]

    answer = client.infer("colours", inputs, outputs=outputs, request_id="seven")

    expected = classifier(list(batch), class_index=[3, -1])
    assert answer.get_response()["id"] == "seven"
    assert (answer.get_response()["model_name"], answer.get_response()["model_version"]) == ("colours", "1")
    np.testing.assert_allclose(answer.as_numpy("probabilities"), [each.probabilities for each in expected], atol=1e-6)
    np.testing.assert_allclose(answer.as_numpy("heatmap"), [each.heatmap for each in expected], atol=1e-6)


def test_all_outputs_where_none_is_named(client, batch) -> None:
    answer = client.infer("colours", [tensor("images", batch, "UINT8", binary=True)])

    assert answer.as_numpy("probabilities").shape == (2, 4)
    assert answer.as_numpy("heatmap").shape == (2, 8, 8)


@pytest.mark.parametrize("binary", [True, False])
def test_the_best_classes_by_the_classification_extension(client, classifier, batch, binary) -> None:
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)]

    answer = client.infer("colours", [tensor("images", batch, "UINT8", binary=True)], outputs=wanted)

    (red, _), (blue, grey) = answer.as_numpy("probabilities")
    value, index, label = (red.decode() if binary else red).split(":")
    assert (index, label) == ("0", "red")
    assert float(value) == pytest.approx(float(classifier([batch[0]])[0].probabilities[0]), abs=1e-6)
    assert [str(each).strip("b'").partition(":")[2] for each in (blue, grey)] == ["2:blue", "3:grey"]


@pytest.mark.parametrize("binary", [True, False])
def test_files_of_pictures_as_bytes(client, pictures, binary) -> None:
    files = [encode_png(pictures("red")), encode_png(pictures("green", 20, 5))]
    sent = files if binary else [base64.b64encode(data) for data in files]

    answer = client.infer("colours", [tensor("images", np.array(sent, object), "BYTES", binary=binary)])

    assert answer.as_numpy("probabilities").argmax(axis=1).tolist() == [0, 1]


def test_clients_are_told_what_is_wrong_in_words(client, batch) -> None:
    with pytest.raises(triton.InferenceServerException, match="no model 'colors'"):
        client.infer("colors", [tensor("images", batch, "UINT8", binary=True)])
    with pytest.raises(triton.InferenceServerException, match="no output 'logits'"):
        client.infer(
            "colours",
            [tensor("images", batch, "UINT8", binary=True)],
            outputs=[triton.InferRequestedOutput("logits")],
        )


def images(shape: list[int], data: object, kind: str = "UINT8", **further: object) -> dict[str, object]:
    return {"name": "images", "shape": shape, "datatype": kind, "data": data, **further}


GOOD = images([1, 1, 1, 3], [255, 0, 0])


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "inputs"),
        ({"inputs": []}, 400, "'images' is missing"),
        ({"inputs": [GOOD, GOOD | {"name": "x"}]}, 400, "no input 'x'"),
        ({"inputs": [images([1, 1, 1, 3], [255, 0])]}, 400, "2 elements"),
        ({"inputs": [images([1, 1, 1, 3], [256, 0, 0])]}, 400, "beyond UINT8"),
        ({"inputs": [images([1, 1, 1, 3], [10**30, 0, 0])]}, 400, "beyond UINT8"),
        ({"inputs": [images([1, 1, 1, 3], [-1, 0, 0])]}, 400, "beyond UINT8"),
        ({"inputs": [images([1, 1, 1, 3], [0.5, 0, 0])]}, 400, "whole number"),
        ({"inputs": [images([1, 1, 1, 3], ["a", 0, 0])]}, 400, "whole number"),
        ({"inputs": [images([1, 1, 1, 3], [[[1], 2]])]}, 400, "unevenly"),
        ({"inputs": [images([1, 1, 1, 2], [0, 0])]}, 400, "UINT8 [N, H, W, 3 or 1]"),
        ({"inputs": [images([1, 3], [0, 0, 0])]}, 400, "UINT8 [N, H, W, 3 or 1]"),
        ({"inputs": [images([0, 1, 1, 3], [])]}, 400, "UINT8 [N, H, W, 3 or 1]"),
        ({"inputs": [images([1, 1, 1, 3], [0, 0, 0], "FP32")]}, 400, "FP32"),
        ({"inputs": [images([-1, 1, 1, 3], [0, 0, 0])]}, 400, "inputs.0.shape"),
        ({"inputs": [images([5, 1, 1, 3], [0] * 15)]}, 413, "4 pictures"),
        ({"inputs": [images([1, 101, 100, 3], [])]}, 413, "10,000 pixels"),
        ({"inputs": [images([1, 10**9, 10**9, 3], [])]}, 413, "pixels"),
        ({"inputs": [images([1], ["no"], "BYTES")]}, 400, "base64"),
        ({"inputs": [images([1], [7], "BYTES")]}, 400, "base64"),
        ({"inputs": [images([2], [""], "BYTES")]}, 400, "1 elements"),
        ({"inputs": [images([1], ["", ""], "BYTES")]}, 400, "more elements"),
        ({"inputs": [images([1, 1], [""], "BYTES")]}, 400, "one dimension"),
        ({"inputs": [images([1], ["AAAA"], "BYTES")]}, 422, "picture"),
        ({"inputs": [images([0], [], "BYTES")]}, 400, "no picture"),
        ({"inputs": [GOOD | {"parameters": {"binary_data_size": 3}}]}, 400, "binary_data_size"),
        ({"inputs": [GOOD], "outputs": [{"name": "heatmap", "parameters": {"classification": 2}}]}, 400, "classif"),
        ({"inputs": [GOOD], "outputs": [{"name": "probabilities", "parameters": {"classification": "x"}}]}, 400, "cl"),
        ({"inputs": [GOOD, {"name": "class_index", "shape": [1], "datatype": "INT64", "data": [4]}]}, 400, "0 to 3"),
        ({"inputs": [GOOD, {"name": "class_index", "shape": [2], "datatype": "INT64", "data": [1, 1]}]}, 400, "[1]"),
    ],
)
def test_wrong_requests_are_refused_in_words(url, body: object, status: int, words: str) -> None:
    answer = httpx.post(f"{url}/v2/models/colours/infer", json=body)

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["error"]
    assert answer.json()["error"] == answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "length", "words"),
    [
        (b"{}", "3", "3, and the body has 2"),
        (b"{}", "x", "not a number"),
        (b"{", "1", "JSON"),
        (b"[" * 100_000, "100000", "JSON"),
        (b"[0]," * 2_100_000, "8400000", "lists: send data flat"),
        (json.dumps({"inputs": [GOOD]}).encode() + b"abc", str(len(json.dumps({"inputs": [GOOD]}))), "belong to no"),
    ],
)
def test_torn_binary_requests_are_refused_in_words(url, body: bytes, length: str, words: str) -> None:
    headers = {"Inference-Header-Content-Length": length}
    answer = httpx.post(f"{url}/v2/models/colours/infer", content=body, headers=headers)

    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]


@pytest.mark.parametrize("blob", [b"\x01", struct.pack("<I", 5) + b"abcd", b"\xff\xff\xff\xff"])
def test_torn_byte_strings_are_refused(url, blob: bytes) -> None:
    sent = {"name": "images", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(blob)}}
    head = json.dumps({"inputs": [sent]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = httpx.post(f"{url}/v2/models/colours/infer", content=head + blob, headers=headers)

    assert answer.status_code == 400
    assert "middle of an element" in answer.json()["error"]


def test_a_file_without_heatmaps_has_neither_their_input_nor_their_output(make_model) -> None:
    plain = Classifier(make_model(target_layer=None, method=None))
    with server.running(create_app(plain, page=False)) as url:
        described = httpx.get(f"{url}/v2/models/model").json()
        answer = httpx.post(f"{url}/v2/models/model/infer", json={"inputs": [GOOD]}).json()
    assert [each["name"] for each in described["inputs"] + described["outputs"]] == ["images", "probabilities"]
    assert [each["name"] for each in answer["outputs"]] == ["probabilities"]


def test_a_model_is_called_as_its_file_in_letters_that_fit_an_address() -> None:
    assert model_name("first.onnx") == "first"
    assert model_name("my model (2).onnx") == "my-model-2"
    assert model_name("служба.onnx") == "model"


def test_the_description_of_a_request_stands_alone(url) -> None:
    described = httpx.get(f"{url}/openapi.json").json()["paths"]["/v2/models/{model}/infer"]["post"]
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    assert "$ref" not in json.dumps(schema)
    assert schema["properties"]["inputs"]["items"]["required"] == ["name", "shape", "datatype"]
    assert [each["name"] for each in described["parameters"]] == ["model", "Inference-Header-Content-Length"]
