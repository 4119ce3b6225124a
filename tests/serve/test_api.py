from __future__ import annotations

import base64
import io
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from cutaway import heatmaps
from cutaway.errors import ServingError
from cutaway.images import Limits
from cutaway.serve.api import ServingLimits, create_app
from cutaway.serve.bodies import _of_json
from cutaway.serve.classifier import Classifier
from cutaway.serve.wire_tensors import InputTensor, ProtocolError, byte_strings, read_request

URL = "http://127.0.0.1"


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def classifier(model_path: Path) -> Classifier:
    return Classifier(model_path, provider="cpu")


@pytest.fixture(scope="module")
def client(classifier: Classifier) -> Iterator[TestClient]:
    limits = ServingLimits(max_body_bytes=100_000, max_images=3, image=Limits(max_bytes=100_000, max_pixels=40_000))
    with TestClient(create_app(classifier, page=False, limits=limits), base_url=URL) as client:
        yield client


def assert_problem(response: Any, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["type"] == "about:blank"
    for word in words:
        assert word in body["detail"]
    assert "Traceback" not in response.text


def test_one_picture_as_raw_body(client, classifier, pictures) -> None:
    response = client.post(
        "/v1/classify?top_k=2", content=encoded(pictures("green", 10, 12)), headers={"content-type": "image/png"}
    )

    assert response.status_code == 200
    (result,) = response.json()["results"]
    (expected,) = classifier([pictures("green", 10, 12)])
    assert [score["label"] for score in result["top"]] == ["green", "grey"]
    assert result["top"][0]["probability"] == pytest.approx(expected.top[0].probability, abs=1e-6)
    assert (result["width"], result["height"], result["name"]) == (12, 10, None)
    assert result["explained"] is result["overlay"] is result["heatmap"] is None
    assert response.json()["bundle"] == classifier.metadata.bundle


def test_many_pictures_keep_their_order_and_names(client, pictures) -> None:
    files = [("images", (f"{color}.png", encoded(pictures(color)))) for color in ("blue", "red", "grey")]

    results = client.post("/v1/classify?top_k=1", files=files).json()["results"]

    assert [(r["name"], r["top"][0]["label"]) for r in results] == [
        ("blue.png", "blue"),
        ("red.png", "red"),
        ("grey.png", "grey"),
    ]


def test_pictures_as_base64_in_json(client, pictures) -> None:
    sent = [base64.b64encode(encoded(pictures(color))).decode() for color in ("blue", "red")]

    results = client.post("/v1/classify?top_k=1", json={"images": sent}).json()["results"]

    assert [result["top"][0]["label"] for result in results] == ["blue", "red"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("{", 400, "not JSON"),
        ("[" * 5000, 400, "not JSON"),
        ("{}", 422, "images"),
        ('{"images": []}', 422, "images"),
        ('{"images": [7]}', 422, "images.0"),
        ('{"images": ["AAAA"], "url": "x"}', 422, "url"),
        ('{"images": ["http://127.0.0.1/a.png"]}', 422, "not fetched"),
        ('{"images": ["é"]}', 422, "not base64"),
        ('{"images": ["AAAA", "AAAA"]}', 422, "Picture 1"),
        ('{"images": ["AAAA", "AAAA", "AAAA", "AAAA"]}', 413, "3 pictures"),
    ],
)
def test_json_that_holds_no_pictures_is_refused_in_words(client, body: str, status: int, words: str) -> None:
    headers = {"content-type": "application/json"}
    assert_problem(client.post("/v1/classify", content=body.encode(), headers=headers), status, words)


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (lambda body: _of_json(body, 3), b'{"images": [%s]}' % b",".join([b"7"] * 50_000)),
        (lambda body: _of_json(body, 3), b"{%s}" % b",".join(b'"%d":7' % key for key in range(20_000))),
        (lambda body: _of_json(body, 3), b'{"images": ["AAAA"], "x": [%s]}' % b",".join([b"[]"] * 100_000)),
        (lambda body: read_request(body, None), b'{"inputs": [%s]}' % b",".join([b"{}"] * 50_000)),
        (lambda body: read_request(body, None), b'{"inputs": [], "outputs": [%s]}' % b",".join([b"7"] * 50_000)),
        (lambda body: byte_strings(InputTensor(name="a", shape=[1], datatype="BYTES"), memoryview(body)), bytes(2**22)),
    ],
)
def test_very_many_wrong_elements_take_little_memory(read, body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises((HTTPException, ProtocolError)):
            read(body)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_compressed_body_is_refused(client, pictures) -> None:
    headers = {"content-type": "image/png", "content-encoding": "gzip"}
    response = client.post("/v1/classify", content=encoded(pictures("red")), headers=headers)
    assert_problem(response, 415, "gzip")
    assert response.headers["accept-encoding"] == "identity"


def test_heatmap_as_numbers_of_the_class_asked_for(client, pictures) -> None:
    response = client.post(
        "/v1/classify?explain=numbers&class_index=3", files={"images": ("a.png", encoded(pictures("red")))}
    )

    (result,) = response.json()["results"]
    assert result["explained"]["label"] == "grey"
    assert (result["heatmap"]["height"], result["heatmap"]["width"]) == (8, 8)
    np.testing.assert_allclose(result["heatmap"]["values"], np.full((8, 8), 0.5))


def test_heatmap_as_overlay(client, classifier) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)

    (result,) = client.post("/v1/classify?explain=overlay", files={"images": encoded(photo)}).json()["results"]

    head, _, data = result["overlay"].partition(",")
    assert head == "data:image/png;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    np.testing.assert_array_equal(shown, heatmaps.overlay(photo, classifier([photo])[0].heatmap))


def test_a_faint_heatmap_is_said_in_words_and_not_stretched(make_model, pictures) -> None:
    faint = Classifier(make_model(faint=True, method_title="Grad-CAM"))
    with TestClient(create_app(faint, page=False), base_url=URL) as client:
        assert client.get("/v1/model").json()["method_title"] == "Grad-CAM"
        files = {"images": encoded(pictures("red"))}
        (result,) = client.post("/v1/classify?explain=overlay", files=files).json()["results"]
    assert result["note"] == "Nothing in this picture speaks for red."
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(result["overlay"].partition(",")[2]))))
    np.testing.assert_array_equal(shown, heatmaps.overlay(pictures("red"), np.zeros((8, 8), np.float32)))


def test_model_tells_what_the_file_says(client, classifier) -> None:
    body = client.get("/v1/model").json()

    assert body["classes"] == list(classifier.classes)
    assert body["bundle"] == classifier.metadata.bundle
    assert body["verification"]["verdict"] == "passed"
    assert body["providers"] == ["CPUExecutionProvider"]


def test_health_and_readiness(classifier) -> None:
    app = create_app(classifier, page=False)
    with TestClient(app, base_url=URL) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").status_code == 200
        app.state.ready = False  # as on the way down
        response = client.get("/readyz")
        assert_problem(response, 503)
        assert response.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "body", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_broken_picture_is_refused_in_words(client, body: bytes) -> None:
    assert_problem(client.post("/v1/classify", content=body, headers={"content-type": "image/png"}), 422)


def test_broken_picture_among_good_ones_is_named(client, pictures) -> None:
    good = encoded(pictures("red"))
    files = [("images", ("good.png", good)), ("images", ("torn.png", good[:50]))]

    assert_problem(client.post("/v1/classify", files=files), 422, "torn.png")


def test_too_many_pixels_are_refused(client) -> None:
    assert_problem(
        client.post("/v1/classify", files={"images": encoded(np.zeros((201, 200, 3), np.uint8))}), 422, "pixels"
    )


def test_too_many_bytes_are_refused(client) -> None:
    assert_problem(client.post("/v1/classify", files={"images": b"x" * 100_000}), 413, "larger")


def test_too_many_pictures_are_refused(client, pictures) -> None:
    one = ("images", ("a.png", encoded(pictures("red"))))

    assert client.post("/v1/classify", files=[one] * 3).status_code == 200
    assert_problem(client.post("/v1/classify", files=[one] * 4), 413, "3 pictures")
    assert client.post("/v1/classify", files=[one] * 9).status_code in (400, 413)


@pytest.mark.parametrize("kind", ["application/xml", "text/plain", ""])
def test_other_content_types_are_refused(client, kind: str) -> None:
    assert_problem(client.post("/v1/classify", content=b"{}", headers={"content-type": kind}), 415)


def test_form_without_pictures_is_refused(client) -> None:
    assert_problem(client.post("/v1/classify", files={"other": b"x"}), 422, "images")
    assert_problem(client.post("/v1/classify", data={"images": "x"}, files={"other": b"x"}), 422, "images")


@pytest.mark.parametrize(
    ("charset", "name"),
    [("utf-7", b"+2AA-.png"), ("raw_unicode_escape", b"\\ud800"), ("idna", b"xn--a"), ("\xff", b"a")],
)
def test_a_form_of_which_no_text_can_be_made_is_refused(client, pictures, charset: str, name: bytes) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="%s"\r\n\r\n' % name
    kind = f"multipart/form-data; boundary=x; charset={charset}".encode("latin-1")
    body = head + encoded(pictures("red")) + b"\r\n--x--\r\n"

    assert_problem(client.post("/v1/classify", content=body, headers={"content-type": kind}), 415, "UTF-8")


def test_torn_form_is_refused(client) -> None:
    response = client.post(
        "/v1/classify", content=b"--x\r\nbroken", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert response.status_code in (400, 422)
    assert_problem(client.post("/v1/classify", content=b"", headers={"content-type": "multipart/form-data"}), 400)


@pytest.mark.parametrize("query", ["top_k=0", "top_k=x", "explain=all", "class_index=4", "class_index=-2"])
def test_impossible_parameters_are_refused(client, pictures, query: str) -> None:
    assert_problem(client.post(f"/v1/classify?{query}", files={"images": encoded(pictures("red"))}), 422)


def test_explaining_a_file_without_heatmaps_is_refused(make_model, pictures) -> None:
    app = create_app(Classifier(make_model(target_layer=None, method=None)), page=False)
    with TestClient(app, base_url=URL) as client:
        files = {"images": encoded(pictures("red"))}
        assert client.post("/v1/classify", files=files).status_code == 200
        assert_problem(client.post("/v1/classify?explain=overlay", files=files), 422, "without heat-maps")


def test_a_parameter_that_there_is_not_is_refused_with_the_one_that_is_meant(client, pictures) -> None:
    picture = encoded(pictures("red"))
    assert_problem(client.post("/v1/classify?topk=3", content=picture), 422, "'topk'", "Did you mean top_k?")
    assert_problem(client.get("/v1/model?verbose=1"), 422, "'verbose'", "Known are model.")


def test_unknown_path_and_method_are_problems(client) -> None:
    assert_problem(client.get("/nothing"), 404)
    assert_problem(client.get("/v1/classify"), 405)


def test_beyond_the_places_it_says_503_and_when_to_come_back(model_path, pictures) -> None:
    entered, leave = threading.Semaphore(0), threading.Event()

    class Slow(Classifier):
        def __call__(self, *arguments, **options):
            entered.release()
            assert leave.wait(30)
            return super().__call__(*arguments, **options)

    app = create_app(Slow(model_path), page=False, limits=ServingLimits(running=1, waiting=0))
    with TestClient(app, base_url=URL) as client, ThreadPoolExecutor() as pool:
        files = {"images": encoded(pictures("red"))}
        first = pool.submit(client.post, "/v1/classify", files=files)
        assert entered.acquire(timeout=30)

        refused = client.post("/v1/classify", files=files)
        assert_problem(refused, 503, "busy")
        assert refused.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200

        leave.set()
        assert first.result().status_code == 200
        assert client.post("/v1/classify", files=files).status_code == 200


def test_beyond_its_time_it_says_504_and_the_network_is_stopped(endless_model, pictures) -> None:
    """White pictures keep this network busy for hours; the place is free again once the run was really stopped."""
    app = create_app(Classifier(endless_model), page=False, limits=ServingLimits(running=1, waiting=1, time_limit=0.3))
    white = encoded(np.full((8, 8, 3), 255, np.uint8))
    with TestClient(app, base_url=URL) as client:
        assert_problem(client.post("/v1/classify", files={"images": white}), 504, "0.3 s")
        assert client.post("/v1/classify", files={"images": encoded(pictures("red"))}).status_code == 200


def test_failures_inside_are_told_without_their_innards(model_path, pictures) -> None:
    class Broken(Classifier):
        fault: Exception = RuntimeError("secret")

        def __call__(self, *arguments, **options):
            raise self.fault

    broken = Broken(model_path)
    with TestClient(create_app(broken, page=False), base_url=URL, raise_server_exceptions=False) as client:
        files = {"images": encoded(pictures("red"))}
        response = client.post("/v1/classify", files=files)
        assert_problem(response, 500)
        assert "secret" not in response.text
        assert response.headers["x-content-type-options"] == "nosniff"
        broken.fault = ServingError("The network's answer holds values that are not finite.")
        assert_problem(client.post("/v1/classify", files=files), 500, "not finite")


def test_openapi_names_what_is_there(client) -> None:
    described = client.get("/openapi.json").json()

    own = {path for path in described["paths"] if not path.startswith("/v2")}
    assert own == {"/healthz", "/readyz", "/metrics", "/v1/model", "/v1/classify"}
    classify = described["paths"]["/v1/classify"]["post"]
    assert "multipart/form-data" in classify["requestBody"]["content"]
    assert set(classify["responses"]) == {"200", "400", "404", "408", "413", "415", "422", "500", "503", "504"}
    assert set(classify["responses"]["422"]["content"]) == {"application/problem+json"}


def test_other_methods_are_refused_beside_the_page_too(classifier) -> None:
    """The page is mounted at / and would answer 404 for whatever the API leaves."""
    with TestClient(create_app(classifier, page=True), base_url="http://127.0.0.1") as with_page:
        answer = with_page.get("/v1/classify")
    assert_problem(answer, 405, "POST")
    assert answer.headers["allow"] == "POST"
