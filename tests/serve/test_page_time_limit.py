"""Whatever a tab asks for is stopped past its time, and the tab says so."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from cutaway.serve.api import ServingLimits, create_app
from cutaway.serve.classifier import Classifier
from cutaway.serve.page.classify import NO_CLASS

SENTENCE = "The answer took longer than 0.2 s, and was stopped. Send fewer or smaller pictures."


@pytest.fixture(scope="module")
def client(endless_featured_model) -> Iterator[TestClient]:
    """White pictures keep this network busy for hours; it has one place, so one that stayed taken would be seen."""
    limits = ServingLimits(running=1, waiting=1, time_limit=0.2)
    with TestClient(create_app(Classifier(endless_featured_model), limits=limits), base_url="http://127.0.0.1") as it:
        yield it


def sent(client: TestClient, value: int) -> dict[str, object]:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, "PNG")
    (path,) = client.post("/gradio_api/upload", files={"files": (f"{uuid.uuid4()}.png", file.getvalue())}).json()
    return {"path": path, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}


def toasts(messages: list[dict[str, object]]) -> list[object]:
    return [message["log"] for message in messages if message["msg"] == "log"]


def test_classify(classes_in, client, ask) -> None:
    assert toasts(ask(client, "input-image", "change", [sent(client, 255), -1, NO_CLASS])) == [SENTENCE]
    *others, answer = ask(client, "input-image", "change", [sent(client, 128), -1, NO_CLASS])
    assert classes_in(answer["output"]["data"][0])
    assert toasts(others) == []


def test_many_pictures_tells_it_once_and_in_each_line(client, ask) -> None:
    messages = ask(client, "many-files", "change", [[sent(client, 255) for _ in range(9)] + [sent(client, 128)] * 7])
    assert toasts(messages) == [SENTENCE]
    table = str(messages[-1]["output"]["data"][0]) + str([each.get("output") for each in messages])
    assert SENTENCE in table


def test_feature_maps(client, ask) -> None:
    messages = ask(client, "feature-layer", "change", [sent(client, 255), "colors"])
    assert toasts(messages) == [SENTENCE]
    assert messages[-1]["output"]["data"] == [f'<p class="cw-failure">{SENTENCE}</p>']
    assert "Map of channel" in str(ask(client, "feature-layer", "change", [sent(client, 128), "colors"])[-1])
