"""The Open Inference Protocol v2 (KServe, Triton): health, metadata and inference with the classification extension.

The input is not the graph's own but pictures as the classifier takes them, so that large ones are resized and every
kind of file is served alike. A version counts the loads of a model's file in this server: only the one in
use is served, and it is "1" until the file is replaced.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from fastapi import FastAPI, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from cutaway import __version__
from cutaway.images import Pixels, decode
from cutaway.serve.bodies import refuse_encoding
from cutaway.serve.classifier import TOP_CLASS, Classifier
from cutaway.serve.limits import ServingLimits
from cutaway.serve.models import Loaded, Models
from cutaway.serve.problems import described
from cutaway.serve.slots import Slots
from cutaway.serve.wire_tensors import (
    InferAnswer,
    InferRequest,
    InputTensor,
    Outgoing,
    ProtocolError,
    byte_strings,
    integers,
    read_request,
    request_schema,
    write_answer,
)

__all__ = ["add_routes"]

_HEADER_LENGTH = "inference-header-content-length"
_TAGS: list[str | Enum] = ["Open Inference Protocol"]
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_INFER: dict[str, Any] = {
    "tags": _TAGS,
    "response_model": InferAnswer,
    "responses": {**described(400, 404, 408, 413, 415, 422, 500, 503, 504), 200: {"content": _BYTES}},
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": request_schema()}, **_BYTES},
        },
        "parameters": [
            {
                "name": "Inference-Header-Content-Length",
                "in": "header",
                "description": "Bytes of JSON at the start of the body, where the bytes of tensors follow",
                "schema": {"type": "integer", "minimum": 0},
            }
        ],
    },
}


class LiveAnswer(BaseModel):
    """The process lives."""

    live: bool = True


class ReadyAnswer(BaseModel):
    """The server is ready."""

    ready: bool = True


class ServerAnswer(BaseModel):
    """The server, and what it can do beyond the protocol's core."""

    name: str = "cutaway"
    version: str = __version__
    extensions: list[str] = ["classification", "binary_tensor_data"]


class TensorAnswer(BaseModel):
    """An input or output: -1 stands for any size."""

    name: str
    datatype: str
    shape: list[int]


class MetadataAnswer(BaseModel):
    """The model's inputs and outputs.

    Attributes:
        name: Of the model.
        versions: The one that is in use.
        platform: What runs it.
        inputs: `images` takes files of pictures too, as BYTES [N]. `class_index` may be left out.
        outputs: The heat-map is raw, on the scale of the logits.
    """

    name: str
    versions: list[str]
    platform: str = "onnxruntime_onnx"
    inputs: list[TensorAnswer]
    outputs: list[TensorAnswer]


class ModelReadyAnswer(BaseModel):
    """The model is ready."""

    name: str
    ready: bool = True


def add_routes(app: FastAPI, models: Models, slots: Slots, limits: ServingLimits) -> None:
    """Adds `/v2...` to the application; it describes the models as they are now, where they stay so."""
    versions = None if models.may_change else {"enum": sorted({each.now.version for each in models})}
    the_model = Path(description="Name of the model", json_schema_extra={"enum": models.names})
    the_version = Path(description="The version in use", json_schema_extra=versions)

    def be_ready() -> None:
        if not app.state.ready:
            raise HTTPException(503, "The server is starting or going down.", headers={"Retry-After": "1"})

    @app.get("/v2/health/live", tags=_TAGS)
    async def live() -> LiveAnswer:
        """The process lives."""
        return LiveAnswer()

    @app.get("/v2/health/ready", tags=_TAGS, responses=described(503))
    async def ready() -> ReadyAnswer:
        """All models are loaded and warm, and the server is not going down."""
        be_ready()
        return ReadyAnswer()

    @app.get("/v2", tags=_TAGS)
    async def server() -> ServerAnswer:
        """The server and its extensions."""
        return ServerAnswer()

    @app.get("/v2/models/{model}", tags=_TAGS, responses=described(404))
    async def model_metadata(model: str = the_model) -> MetadataAnswer:
        """The model's inputs and outputs."""
        return describe_tensors(*models.named(model))

    @app.get("/v2/models/{model}/versions/{version}", tags=_TAGS, responses=described(404))
    async def version_metadata(model: str = the_model, version: str = the_version) -> MetadataAnswer:
        """The inputs and outputs of a version of the model."""
        return describe_tensors(*models.named(model, version))

    @app.get("/v2/models/{model}/ready", tags=_TAGS, responses=described(404, 503))
    async def model_ready(model: str = the_model) -> ModelReadyAnswer:
        """The model is loaded and warm, and the server is not going down."""
        name, _ = models.named(model)
        be_ready()
        return ModelReadyAnswer(name=name)

    @app.get("/v2/models/{model}/versions/{version}/ready", tags=_TAGS, responses=described(404, 503))
    async def version_ready(model: str = the_model, version: str = the_version) -> ModelReadyAnswer:
        """The version of the model is loaded and warm, and the server is not going down."""
        name, _ = models.named(model, version)
        be_ready()
        return ModelReadyAnswer(name=name)

    @app.post("/v2/models/{model}/infer", **_INFER)
    async def model_infer(request: Request, model: str = the_model) -> Response:
        """Probabilities, heat-maps and the best classes of pictures, as tensors in JSON or in bytes."""
        return await infer(request, *models.named(model))

    @app.post("/v2/models/{model}/versions/{version}/infer", **_INFER)
    async def version_infer(request: Request, model: str = the_model, version: str = the_version) -> Response:
        """Probabilities, heat-maps and the best classes by a version of the model."""
        return await infer(request, *models.named(model, version))

    async def infer(request: Request, name: str, loaded: Loaded) -> Response:
        refuse_encoding(request)
        length = _header_length(request)
        async with slots.admission(name) as admission:
            sent = await admission.receive(request.body())
            body, header = await admission.run(_infer, name, loaded, sent, length, limits)
        if header is None:
            return Response(body, media_type="application/json")
        return Response(body, media_type="application/octet-stream", headers={_HEADER_LENGTH: str(header)})


def describe_tensors(name: str, loaded: Loaded) -> MetadataAnswer:
    """What the model takes and gives."""
    classifier = loaded.classifier
    inputs = [TensorAnswer(name="images", datatype="UINT8", shape=[-1, -1, -1, 3])]
    outputs = [TensorAnswer(name="probabilities", datatype="FP32", shape=[-1, len(classifier.classes)])]
    if classifier.metadata.explains:
        inputs.append(TensorAnswer(name="class_index", datatype="INT64", shape=[-1]))
        outputs.append(TensorAnswer(name="heatmap", datatype="FP32", shape=[-1, -1, -1]))
    return MetadataAnswer(name=name, versions=[loaded.version], inputs=inputs, outputs=outputs)


class _Wanted(NamedTuple):
    """An output that was asked for: how many best classes, 0 for the tensor; whether as bytes."""

    name: str
    best: int
    binary: bool


def _infer(
    name: str, loaded: Loaded, body: bytes, header_length: int | None, limits: ServingLimits
) -> tuple[bytes, int | None]:
    classifier = loaded.classifier
    request, blobs = read_request(body, header_length)
    given = {tensor.name: tensor for tensor in request.inputs}
    explains = classifier.metadata.explains
    for other in given.keys() - ({"images", "class_index"} if explains else {"images"}):
        raise ProtocolError(f"The model has no input {other[:100]!r}.")
    if "images" not in given:
        raise ProtocolError("Input 'images' is missing.")
    wanted = _wanted(request, explains, len(classifier.classes))
    pictures = _pictures(given["images"], blobs.get("images"), limits)
    targets = _targets(given.get("class_index"), blobs.get("class_index"), len(pictures), len(classifier.classes))
    explain = any(output.name == "heatmap" for output in wanted)
    predictions = classifier(pictures, top_k=1, explain=explain, class_index=targets)
    probabilities = np.stack([prediction.probabilities for prediction in predictions])
    heatmaps = [prediction.heatmap for prediction in predictions if prediction.heatmap is not None]
    outgoing = []
    for output in wanted:
        if output.best:
            best = [_best(row, output.best, classifier) for row in probabilities]
            outgoing.append(Outgoing(output.name, best, output.binary))
        else:
            values = np.stack(heatmaps) if output.name == "heatmap" else probabilities
            outgoing.append(Outgoing(output.name, values, output.binary))
    answer = InferAnswer(model_name=name, model_version=loaded.version, id=request.id, outputs=[])
    return write_answer(answer, outgoing)


def _wanted(request: InferRequest, explains: bool, num_classes: int) -> list[_Wanted]:
    known = ["probabilities", "heatmap"] if explains else ["probabilities"]
    in_bytes = bool(request.parameters.get("binary_data_output", False))
    if not request.outputs:
        return [_Wanted(name, 0, in_bytes) for name in known]
    wanted = []
    for output in request.outputs:
        if output.name not in known:
            raise ProtocolError(f"The model has no output {output.name[:100]!r}.", hint=f"It has {', '.join(known)}.")
        best = output.parameters.get("classification", 0)
        if not isinstance(best, int) or best < 0 or (best and output.name != "probabilities"):
            raise ProtocolError(
                "classification must be a number of classes, and of 'probabilities'.", hint="0 gives the tensor."
            )
        binary = bool(output.parameters.get("binary_data", in_bytes))
        wanted.append(_Wanted(output.name, min(best, num_classes), binary))
    return wanted


def _pictures(tensor: InputTensor, blob: memoryview | None, limits: ServingLimits) -> list[Pixels]:
    """UINT8 [N, H, W, 3 or 1], or the files of pictures as BYTES [N]."""
    if tensor.shape and tensor.shape[0] > limits.max_images:
        raise HTTPException(413, f"More than {limits.max_images} pictures in one request.")
    if tensor.datatype == "BYTES":
        pictures = [decode(data, limits=limits.image) for data in byte_strings(tensor, blob)]
        if not pictures:
            raise ProtocolError("Input 'images' holds no picture.")
        return pictures
    if tensor.datatype != "UINT8" or len(tensor.shape) != 4 or 0 in tensor.shape or tensor.shape[3] not in (1, 3):
        raise ProtocolError(
            f"Input 'images' is {tensor.datatype[:20]} {tensor.shape}.",
            hint="Send UINT8 [N, H, W, 3 or 1], or files of pictures as BYTES [N].",
        )
    if tensor.shape[1] * tensor.shape[2] > limits.image.max_pixels:
        raise HTTPException(413, f"A picture has more than the {limits.image.max_pixels:,} pixels that are allowed.")
    values = integers(tensor, blob)
    assert values.dtype == np.uint8
    return list(values.astype(np.uint8, copy=False))


def _targets(tensor: InputTensor | None, blob: memoryview | None, count: int, num_classes: int) -> list[int]:
    if tensor is None:
        return [TOP_CLASS] * count
    if tensor.datatype != "INT64" or tensor.shape not in ([1], [count]):
        raise ProtocolError(f"Input 'class_index' must be INT64 [{count}] or [1].")
    targets = [int(target) for target in integers(tensor, blob)]
    if any(not TOP_CLASS <= target < num_classes for target in targets):
        raise ProtocolError(
            "Input 'class_index' names a class that is not there.",
            hint=f"Classes count from 0 to {num_classes - 1}; -1 is the top.",
        )
    return targets * count if len(targets) == 1 else targets


def _best(row: npt.NDArray[np.float32], count: int, classifier: Classifier) -> list[str]:
    order = np.argsort(-row, kind="stable")[:count]
    return [f"{row[index]:f}:{index}:{classifier.classes[index]}" for index in order]


def _header_length(request: Request) -> int | None:
    text = request.headers.get(_HEADER_LENGTH)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise ProtocolError("Inference-Header-Content-Length is not a number of bytes.")
    return int(text)
