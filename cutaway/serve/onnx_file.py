"""Reading an ONNX file's protobuf, and refusing what must not be run, before ONNX Runtime sees it.

A served file must stand alone, or it could open any file of the server; one above 2 GB has a second file, which
`external_data` reads. Only the parts of the protobuf that are asked for are walked, so neither onnx nor protobuf need
be installed to serve, and weights are skipped, not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from cutaway.errors import ServingError

# For each kind of message, its fields that lead towards a node or a tensor (onnx.proto3).
_LEADS_TO = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_GRAPH, _METADATA_PROPS, _FUNCTION = 7, 14, 25
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_INITIALIZER = 5
_NODE, _INPUT, _OUTPUT, _OP_TYPE, _DOMAIN = 1, 1, 2, 4, 7
_FUNCTION_DOMAIN = 10
_DEEPEST = 64

# Standard operators, and ONNX Runtime's own ones, which its quantisation and its optimiser write.
_KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
_OPENS_FILES = {"EPContext"}

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_DIGITS = re.compile("[0-9]{1,15}")

_DAMAGED_HINT = "Copy or export it again."


class Node(NamedTuple):
    """An operator of a graph.

    Attributes:
        op_type: Its name, for example `Softmax`.
        domain: Whose operator it is; empty for standard ONNX.
        inputs: Names of values.
        outputs: Names of values.
    """

    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def properties(data: bytes) -> dict[str, str]:
    """The file's metadata properties.

    Raises:
        ServingError: The file is torn or not ONNX.
    """
    try:
        entries = [value for field, value in _fields(memoryview(data)) if field == _METADATA_PROPS]
        return dict(_entry(entry) for entry in entries if isinstance(entry, memoryview))
    except (IndexError, UnicodeDecodeError) as error:
        raise ServingError("The ONNX file is damaged.", hint=_DAMAGED_HINT) from error


def check_stands_alone(data: bytes, beside: tuple[str, int] | None = None) -> None:
    """Refuses an ONNX file whose weights lie in other files, or that is not readable as ONNX.

    Args:
        data: The file.
        beside: Name and size of the one other file that initializers of its main graph may lie in.

    Raises:
        ServingError: It names other files, or its protobuf is torn.
    """
    try:
        message = memoryview(data)
        num_external = sum(kind == "tensor" and _is_external(part) for kind, part in _walk(message, "model", depth=0))
        allowed = 0
        if beside is not None:
            for graph in _messages(message, _GRAPH):
                tensors = [tensor for tensor in _messages(graph, _INITIALIZER) if _is_external(tensor)]
                allowed += sum(_lies_in(tensor, *beside) for tensor in tensors)
    except (IndexError, UnicodeDecodeError) as error:
        raise ServingError("The ONNX file is damaged: it ends too early.", hint=_DAMAGED_HINT) from error
    if num_external > allowed:
        raise ServingError(
            "The ONNX file keeps weights in other files"
            + (", and only files that stand alone are served." if beside is None else f" than {beside[0]}."),
            hint="Make one with `cutaway export RUN --out model.onnx`.",
        )


def check_operators(data: bytes) -> None:
    """Refuses operators that are neither standard, nor ONNX Runtime's own, nor written out in the file itself.

    Raises:
        ServingError: It has others, or one that opens files; the protobuf is torn.
    """
    try:
        message = memoryview(data)
        own = {_text(function, _FUNCTION_DOMAIN) for function in _messages(message, _FUNCTION)}
        for kind, part in _walk(message, "model", depth=0):
            if kind != "node":
                continue
            node = _node(part)
            if node.domain not in _KNOWN_DOMAINS | own or node.op_type in _OPENS_FILES:
                name = f"{node.domain}.{node.op_type}".strip(".")
                raise ServingError(
                    f"The ONNX file uses the operator {name[:100]}, which is not a standard one.",
                    hint="Export it with standard ONNX operators.",
                )
    except (IndexError, UnicodeDecodeError) as error:
        raise ServingError("The ONNX file is damaged.", hint=_DAMAGED_HINT) from error


def nodes(data: bytes) -> list[Node]:
    """The operators of the main graph, in the file's order.

    Raises:
        ServingError: The protobuf is torn.
    """
    try:
        return [_node(node) for graph in _messages(memoryview(data), _GRAPH) for node in _messages(graph, _NODE)]
    except (IndexError, UnicodeDecodeError) as error:
        raise ServingError("The ONNX file is damaged.", hint=_DAMAGED_HINT) from error


def _walk(message: memoryview, kind: str, depth: int) -> Iterator[tuple[str, memoryview]]:
    """Every node and tensor of a message, at any depth, and the messages around them."""
    if depth > _DEEPEST:
        raise ServingError(f"The ONNX file is damaged: its graphs are nested more than {_DEEPEST} deep.")
    yield kind, message
    leads_to = _LEADS_TO[kind]
    if not leads_to:
        return
    for field, value in _fields(message):
        if field in leads_to:
            if not isinstance(value, memoryview):
                raise ServingError("The ONNX file is damaged: its protobuf is not that of ONNX.")
            yield from _walk(value, leads_to[field], depth + 1)


def _is_external(tensor: memoryview) -> bool:
    return any(field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0) for field, value in _fields(tensor))


def _lies_in(tensor: memoryview, name: str, num_bytes: int) -> bool:
    """Whether an external tensor names this file, says where in it, and lies inside."""
    entries = [_entry(entry) for entry in _messages(tensor, _EXTERNAL_DATA)]
    found = dict(entries)
    numbers = (found.get("offset", ""), found.get("length", ""))
    if len(entries) != 3 or found.get("location") != name or not all(_DIGITS.fullmatch(number) for number in numbers):
        return False
    offset, length = map(int, numbers)
    return offset + length <= num_bytes


def _node(message: memoryview) -> Node:
    return Node(
        _text(message, _OP_TYPE),
        _text(message, _DOMAIN),
        tuple(bytes(name).decode() for name in _messages(message, _INPUT)),
        tuple(bytes(name).decode() for name in _messages(message, _OUTPUT)),
    )


def _entry(message: memoryview) -> tuple[str, str]:
    return _text(message, 1), _text(message, 2)


def _text(message: memoryview, number: int) -> str:
    """A text field; the last, where it comes more than once, as protobuf has it."""
    found = _messages(message, number)
    return bytes(found[-1]).decode() if found else ""


def _messages(message: memoryview, number: int) -> list[memoryview]:
    return [value for field, value in _fields(message) if field == number and isinstance(value, memoryview)]


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
