"""What the API says of itself, held against what it does by schemathesis: no 5xx, and no contradiction."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cutaway.images import Limits
from cutaway.serve import server
from cutaway.serve.api import ServingLimits, create_app
from cutaway.serve.bodies import RAW_KINDS
from cutaway.serve.classifier import Classifier

schemathesis = pytest.importorskip("schemathesis")


def picture(side: int, color: int, kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side + 1), (color, 99, 7)).save(file, kind)
    return file.getvalue()


PICTURES = st.builds(picture, st.integers(1, 20), st.integers(0, 255), st.sampled_from(["PNG", "JPEG", "GIF"]))
# A schema can say "bytes" and not "a picture": only with pictures can what it calls valid be taken.
schemathesis.openapi.format("binary", PICTURES)
schemathesis.openapi.format("byte", PICTURES.map(lambda data: base64.b64encode(data).decode()))
for kind in RAW_KINDS:
    schemathesis.openapi.media_type(kind, PICTURES)


MODEL, VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
OPERATIONS = [
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/v1/model"),
    ("POST", "/v1/classify"),
    ("GET", "/v2"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    *((method, path + end) for path in (MODEL, VERSION) for method, end in (("GET", ""), ("GET", "/ready"))),
    *(("POST", path + "/infer") for path in (MODEL, VERSION)),
]


@pytest.fixture(scope="module")
def described(model_path) -> Iterator[Any]:
    limits = ServingLimits(max_images=3, max_body_bytes=200_000, image=Limits(max_bytes=100_000, max_pixels=10_000))
    app = create_app(Classifier(model_path, provider="cpu"), page=False, limits=limits)
    with server.running(app) as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        schema.config.checks.negative_data_rejection.expected_statuses.append("413")  # for too many pictures
        yield schema


def test_every_operation_is_tried(described) -> None:
    found = [operation.ok() for operation in described.get_all_operations()]
    assert sorted((each.method.upper(), each.path) for each in found) == sorted(OPERATIONS)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_is_described_is_true(described, method: str, path: str, mode: Any) -> None:
    operation = described[path][method]
    # That the bytes of a tensor are as many as its shape says is beyond what a schema can tell.
    beyond = [schemathesis.checks.positive_data_acceptance] if path.endswith("/infer") else []

    @settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def hold(case: Any) -> None:
        case.call_and_validate(excluded_checks=beyond)

    if mode is schemathesis.GenerationMode.POSITIVE or method == "POST":
        hold()
