from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from cutaway.errors import ImageError, ServingError
from cutaway.images import encode_png
from cutaway.serve import client as client_module
from cutaway.serve import server
from cutaway.serve.api import ServingLimits, create_app
from cutaway.serve.classifier import Classifier
from cutaway.serve.client import Client, RefusedError

KEY = "an-api-key-of-the-tests"


@pytest.fixture(scope="module")
def classifier(model_path) -> Classifier:
    return Classifier(model_path, provider="cpu")


@pytest.fixture(scope="module")
def url(classifier) -> Iterator[str]:
    app = create_app(classifier, page=False, keys=[KEY], limits=ServingLimits(max_images=4))
    with server.running(app) as url:
        yield url


@pytest.fixture
def client(url) -> Iterator[Client]:
    with Client(url, key=KEY) as client:
        yield client


def test_files_bytes_and_pixels_are_answered_in_order(client, classifier, pictures, tmp_path) -> None:
    (tmp_path / "red.png").write_bytes(encode_png(pictures("red")))
    sent = [tmp_path / "red.png", str(tmp_path / "red.png"), encode_png(pictures("blue")), pictures("green", 9, 5)]

    answers = client.classify(sent, top_k=1)

    assert [answer.top[0].label for answer in answers] == ["red", "red", "blue", "green"]
    assert [answer.name for answer in answers] == ["red.png", "red.png", "picture", "picture.png"]
    expected = classifier([pictures("blue")])[0].top[0].probability
    assert answers[2].top[0].probability == pytest.approx(expected, abs=1e-6)
    assert client.classify([]) == []


def test_heatmaps_of_the_class_asked_for(client, pictures) -> None:
    (answer,) = client.classify([pictures("red")], explain="numbers", class_index=3)
    assert answer.explained is not None
    assert answer.explained.label == "grey"
    assert answer.heatmap is not None
    np.testing.assert_allclose(answer.heatmap.values, np.full((8, 8), 0.5))
    (answer,) = client.classify([pictures("red")], explain="overlay")
    assert answer.overlay is not None


def test_the_model_and_readiness(client, url, classifier) -> None:
    assert client.is_ready()
    assert client.model().classes == list(classifier.classes)
    with Client(f"{url}/", key=KEY) as with_slash:
        assert with_slash.model().bundle == classifier.metadata.bundle


def test_the_server_s_refusals_come_in_its_words(client, url, pictures) -> None:
    with pytest.raises(RefusedError, match="cannot be decoded") as refused:
        client.classify([b"no picture"])
    assert refused.value.status == 422
    with pytest.raises(RefusedError, match="4 pictures") as refused:
        client.classify([pictures("red")] * 5)
    assert refused.value.status == 413
    with Client(url) as without_key, pytest.raises(RefusedError, match="asks for a key") as refused:
        without_key.model()
    assert refused.value.status == 401


def test_what_cannot_be_sent_is_told_before(client, tmp_path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        client.classify([tmp_path / "none.png"])
    with pytest.raises(ImageError, match="uint8"):
        client.classify([np.zeros((4, 4, 3))])


@pytest.mark.parametrize("url", ["127.0.0.1:7860", "ftp://x", "", "http://[", "http://a b"])
def test_what_is_no_address_is_told(url) -> None:
    with pytest.raises(ServingError, match=r"not the address|No server"), Client(url) as client:
        client.model()


def test_a_server_that_is_not_there_is_told() -> None:
    with Client("http://127.0.0.1:9") as client:
        assert not client.is_ready()
        with pytest.raises(ServingError, match="No server answers"):
            client.model()


def answering(monkeypatch, *responses: httpx.Response) -> Client:
    """A client whose server gives these answers."""
    waiting = list(responses)
    transport = httpx.MockTransport(lambda request: waiting.pop(0))
    client = Client("http://127.0.0.1:9")
    monkeypatch.setattr(client, "_http", httpx.Client(transport=transport, base_url=client.url))
    return client


def test_it_waits_as_long_as_a_busy_server_says(monkeypatch, client) -> None:
    waited: list[float] = []
    monkeypatch.setattr(client_module.time, "sleep", waited.append)
    real = client._http.get("/v1/model")
    busy = [httpx.Response(503, headers={"retry-after": text}, json={"detail": "busy"}) for text in ("7", "x", "9999")]
    assert answering(monkeypatch, *busy, httpx.Response(200, content=real.content)).model() == client.model()
    assert waited == [7.0, 1.0, 30.0]
    with pytest.raises(RefusedError, match="busy"):
        answering(monkeypatch, *busy, *busy).model()


@pytest.mark.parametrize("content", [b"<html>", b"{}", b"[]", b'{"detail": 3}'])
def test_something_else_at_that_address_is_told(monkeypatch, content) -> None:
    with pytest.raises(ServingError, match="not a cutaway server"):
        answering(monkeypatch, httpx.Response(200, content=content)).model()
    with pytest.raises(RefusedError, match="status 404"):
        answering(monkeypatch, httpx.Response(404, content=content)).model()


def test_many_threads_share_a_client(client, pictures) -> None:
    colors = ["red", "green", "blue", "grey"] * 4
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda color: client.classify([pictures(color)], top_k=1), colors))
    assert [answer[0].top[0].label for answer in answers] == colors


def test_a_client_needs_neither_torch_nor_onnxruntime_nor_a_server() -> None:
    code = (
        "import sys; from cutaway.serve import Client;"
        "print([name for name in ('torch', 'onnxruntime', 'fastapi', 'gradio') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
