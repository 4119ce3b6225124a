"""Reading an ONNX file's properties, and refusing one that points at other files, before ONNX Runtime sees it.

A served file must stand alone, or it could open any file of the server. Only the parts of the protobuf that lead to
tensors are walked, so neither onnx nor protobuf need be installed to serve, and weights are skipped, not read.
"""

from __future__ import annotations

from collections.abc import Iterator

from cutaway.errors import ServingError

# For each kind of message, its fields that lead towards a tensor (onnx.proto3).
_LEADS_TO = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_METADATA_PROPS = 14
_DEEPEST = 64

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def properties(data: bytes) -> dict[str, str]:
    """The file's metadata properties.

    Raises:
        ServingError: The file is torn or not ONNX.
    """
    try:
        entries = [value for field, value in _fields(memoryview(data)) if field == _METADATA_PROPS]
        return dict(_entry(entry) for entry in entries if isinstance(entry, memoryview))
    except (IndexError, UnicodeDecodeError) as error:
        raise ServingError("The ONNX file is damaged.", hint="Copy or export it again.") from error


def check_stands_alone(data: bytes) -> None:
    """Refuses an ONNX file whose weights lie in other files, or that is not readable as ONNX.

    Raises:
        ServingError: It names other files, or its protobuf is torn.
    """
    try:
        _check(memoryview(data), "model", depth=0)
    except IndexError as error:
        raise ServingError("The ONNX file is damaged: it ends too early.", hint="Copy or export it again.") from error


def _check(message: memoryview, kind: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise ServingError(f"The ONNX file is damaged: its graphs are nested more than {_DEEPEST} deep.")
    for field, value in _fields(message):
        if kind == "tensor":
            if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0):
                raise ServingError(
                    "The ONNX file keeps weights in other files, and only files that stand alone are served.",
                    hint="Make one with `cutaway export RUN --out model.onnx`.",
                )
        elif field in _LEADS_TO[kind]:
            if not isinstance(value, memoryview):
                raise ServingError("The ONNX file is damaged: its protobuf is not that of ONNX.")
            _check(value, _LEADS_TO[kind][field], depth + 1)


def _entry(message: memoryview) -> tuple[str, str]:
    texts = {field: bytes(value).decode() for field, value in _fields(message) if isinstance(value, memoryview)}
    return texts.get(1, ""), texts.get(2, "")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field; IndexError where the message ends within one."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        field, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, at = _varint(message, at)
            yield field, value
            continue
        if wire_type == _BYTES:
            length, at = _varint(message, at)
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise ServingError("The ONNX file is damaged: its protobuf is not that of ONNX.")
        if length > len(message) - at:
            raise IndexError(at)
        yield field, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ServingError("The ONNX file is damaged: its protobuf is not that of ONNX.")
