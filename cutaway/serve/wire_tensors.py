"""Tensors as the Open Inference Protocol sends them: as JSON, or as bytes behind a JSON header.

In the binary form the body is that header, `Inference-Header-Content-Length` bytes long, and then the bytes of each
tensor in order, little-endian, row by row. An element of type BYTES is its length in four bytes, then its bytes.
"""

from __future__ import annotations

import json
import struct
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, ValidationError

from cutaway.errors import CutawayError

__all__ = [
    "InferAnswer",
    "InferRequest",
    "InputTensor",
    "Outgoing",
    "OutputTensor",
    "ProtocolError",
    "byte_strings",
    "integers",
    "read_request",
    "request_schema",
    "write_answer",
]

Datatype = Literal["UINT8", "INT64", "FP32", "BYTES"]
Integers = npt.NDArray[np.uint8] | npt.NDArray[np.int64]

_TYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "INT64": np.dtype("<i8")}
_MOST_DIMENSIONS = 8
_MOST_TENSORS = 16
"""In or out: far more than a model here has. An error for each of millions, or an answer to each, would fill memory."""

_MOST_LISTS = 2**21
"""In the JSON: two megapixels, a list of three colours each. Read, a list takes 40 times the memory of its letters."""


class ProtocolError(CutawayError):
    """A request does not follow the Open Inference Protocol, or asks for what this model does not have."""


class InputTensor(BaseModel):
    """A tensor of a request.

    Attributes:
        name: Of the input.
        shape: Of the tensor.
        datatype: `UINT8`, `INT64` or `BYTES`.
        parameters: `binary_data_size` where the tensor's bytes follow the JSON.
        data: The elements, flat or nested; those of BYTES in base64. Absent in the binary form.
    """

    name: str
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=_MOST_DIMENSIONS)]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class WantedOutput(BaseModel):
    """An output that a request asks for.

    Attributes:
        name: Of the output.
        parameters: `binary_data` for bytes behind the JSON; `classification: k` for the k best classes as
            `probability:index:label`.
    """

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    """A request for inference.

    Attributes:
        id: Comes back in the answer.
        parameters: `binary_data_output` for the bytes of all outputs behind the JSON.
        inputs: The input tensors.
        outputs: Those wanted; all, where absent.
    """

    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: Annotated[list[InputTensor], Field(max_length=_MOST_TENSORS)]
    outputs: Annotated[list[WantedOutput], Field(max_length=_MOST_TENSORS)] | None = None


class OutputTensor(BaseModel):
    """A tensor of an answer; `data` is flat, and absent where its bytes follow the JSON."""

    name: str
    shape: list[int]
    datatype: Datatype
    parameters: dict[str, int] | None = None
    data: list[float] | list[str] | None = None


class InferAnswer(BaseModel):
    """The answer to a request for inference."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


@dataclass(frozen=True)
class Outgoing:
    """An output on its way.

    Attributes:
        name: Of the output.
        values: float32 [N, ...], or texts [N, k].
        binary: Whether its bytes follow the JSON.
    """

    name: str
    values: npt.NDArray[np.float32] | Sequence[Sequence[str]]
    binary: bool


def read_request(body: bytes, header_length: int | None) -> tuple[InferRequest, dict[str, memoryview]]:
    """The JSON of a request, and the bytes of each tensor that has some.

    Args:
        body: Of the request.
        header_length: Bytes of JSON at its start; None where all of it is.

    Raises:
        ProtocolError: It is not JSON of this form, or its lengths do not add up.
    """
    if header_length is not None and header_length > len(body):
        raise ProtocolError(f"Inference-Header-Content-Length is {header_length}, and the body has {len(body)} bytes.")
    end = len(body) if header_length is None else header_length
    if body.count(b"[", 0, end) > _MOST_LISTS:
        raise ProtocolError(f"The JSON has more than {_MOST_LISTS:,} lists: send data flat, or in the binary form.")
    try:
        request = InferRequest.model_validate_json(body[:end])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:100]
        raise ProtocolError(f"{where or 'The body'}: {first['msg']}.") from error
    rest = memoryview(body)[end:]
    blobs: dict[str, memoryview] = {}
    for tensor in request.inputs:
        if tensor.name in blobs:
            raise ProtocolError(f"Input {tensor.name[:100]!r} is given twice.")
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
            raise ProtocolError(f"binary_data_size of {tensor.name[:100]!r} does not fit the body.")
        blobs[tensor.name], rest = rest[:size], rest[size:]
    if len(rest):
        raise ProtocolError(f"{len(rest)} bytes of the body belong to no input.")
    return request, blobs


def request_schema() -> dict[str, Any]:
    """A request as OpenAPI describes it, in one piece: references would point to the root of its document."""
    schema = InferRequest.model_json_schema()
    parts = schema.pop("$defs")

    def whole(node: Any) -> Any:
        if isinstance(node, dict):
            found = parts[node["$ref"].rpartition("/")[2]] if "$ref" in node else node
            return {key: whole(value) for key, value in found.items()}
        return [whole(each) for each in node] if isinstance(node, list) else node

    described: dict[str, Any] = whole(schema)
    return described


def integers(tensor: InputTensor, blob: memoryview | None) -> Integers:
    """The elements of a tensor of whole numbers, in its shape.

    Args:
        tensor: UINT8 or INT64.
        blob: Its bytes, where they follow the JSON.

    Raises:
        ProtocolError: They are of another type, out of its range, or not as many as the shape says.
    """
    kind = _TYPES.get(tensor.datatype)
    if kind is None:
        raise _wrong(tensor, f"has the datatype {tensor.datatype[:20]!r}, which is not taken here")
    if blob is None:
        blob = memoryview(_packed(tensor, tensor.data or [], kind, _MOST_DIMENSIONS))
    if len(blob) != prod(tensor.shape) * kind.itemsize:
        raise _wrong(tensor, f"has {len(blob) // kind.itemsize} elements and the shape {tensor.shape}")
    values: Integers = np.frombuffer(blob, kind).reshape(tensor.shape)
    return values


def byte_strings(tensor: InputTensor, blob: memoryview | None) -> list[bytes]:
    """The elements of a BYTES tensor [N].

    Raises:
        ProtocolError: They are torn, not base64 in JSON, or not as many as the shape says.
    """
    if len(tensor.shape) != 1:
        raise _wrong(tensor, f"has the shape {tensor.shape}, and BYTES have one dimension here")
    found: list[bytes] = []
    for element in _from_base64(tensor) if blob is None else _from_bytes(tensor, blob):
        if len(found) == tensor.shape[0]:  # told at once: of empty ones a body holds millions
            raise _wrong(tensor, f"has more elements than the shape {tensor.shape}")
        found.append(element)
    if len(found) < tensor.shape[0]:
        raise _wrong(tensor, f"has {len(found)} elements and the shape {tensor.shape}")
    return found


def write_answer(answer: InferAnswer, outputs: Sequence[Outgoing]) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON where bytes follow it.

    Args:
        answer: Without outputs.
        outputs: In order.
    """
    blobs: list[bytes] = []
    described = []
    for output in outputs:
        is_text = not isinstance(output.values, np.ndarray)
        values = output.values if isinstance(output.values, np.ndarray) else np.array(output.values, object)
        flat: list[Any] = values.reshape(-1).tolist()
        blob = b"".join(_element(text) for text in flat) if is_text else values.astype("<f4").tobytes()
        tensor = OutputTensor(
            name=output.name,
            shape=list(values.shape),
            datatype="BYTES" if is_text else "FP32",
            parameters={"binary_data_size": len(blob)} if output.binary else None,
        ).model_dump(exclude_none=True)
        if output.binary:
            blobs.append(blob)
        else:
            tensor["data"] = flat
        described.append(tensor)
    head = json.dumps(answer.model_dump(exclude_none=True) | {"outputs": described}).encode()
    return b"".join([head, *blobs]), len(head) if blobs else None


def _packed(tensor: InputTensor, data: Sequence[Any], kind: np.dtype[Any], depth: int) -> bytes:
    """The bytes of JSON's numbers, which may be nested; never more of them than the JSON holds."""
    if data and isinstance(data[0], list) and depth > 1:
        if not all(isinstance(each, list) for each in data):
            raise _wrong(tensor, "is nested unevenly")
        return b"".join(_packed(tensor, each, kind, depth - 1) for each in data)
    if not all(type(each) is int for each in data):
        raise _wrong(tensor, "holds what is not a whole number")
    try:
        return np.array(data, kind).tobytes()
    except OverflowError as error:
        raise _wrong(tensor, f"holds numbers beyond {tensor.datatype}") from error


def _from_base64(tensor: InputTensor) -> Iterator[bytes]:
    for text in tensor.data or []:
        try:
            yield b64decode(text, validate=True)
        except (ValueError, TypeError) as error:
            raise _wrong(tensor, "holds what is not base64") from error


def _from_bytes(tensor: InputTensor, blob: memoryview) -> Iterator[bytes]:
    while len(blob):
        if len(blob) < 4 or len(blob) - 4 < (size := struct.unpack_from("<I", blob)[0]):
            raise _wrong(tensor, "ends in the middle of an element")
        yield bytes(blob[4 : 4 + size])
        blob = blob[4 + size :]


def _element(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def _wrong(tensor: InputTensor, words: str) -> ProtocolError:
    return ProtocolError(f"Input {tensor.name[:100]!r} {words}.")
