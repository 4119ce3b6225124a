"""What an exported ONNX file says about itself, and the seal by which a reader knows that it is whole.

Everything lies in the file's own metadata properties, one per field, each value as JSON under a `cutaway.` key, so
any program that can read ONNX can read it. This module needs neither torch nor onnx: the exporter and the classifier
share it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json, to_json

from cutaway.errors import ServingError
from cutaway.preprocessing.spec import Preprocessing
from cutaway.serve.external_data import ExternalData

FORMAT_VERSION = 1

Precision = Literal["fp32", "fp16", "bf16", "int8", "int8-dynamic"]
"""What the network in a file is computed in; preprocessing, softmax and heat-map are float in every form."""

_PREFIX = "cutaway."
_FORMAT_KEY = _PREFIX + "format"
_SEAL_KEY = _PREFIX + "sha256"
_UNSEALED = b"0" * 64
# How protobuf writes the start of that property: field 1 with its length and text, then field 2 and its length.
# JSON escapes control characters, so no other property of ours can hold these bytes.
# Of a protobuf that begins with its first field, the version, as every writer of ONNX has it.
_FIRST_BYTE = 0x08
_SEAL_MARKER = b"\x0a" + bytes([len(_SEAL_KEY)]) + _SEAL_KEY.encode() + b"\x12" + bytes([len(_UNSEALED)])

_NOT_OURS_HINT = (
    "Make one with `cutaway export RUN --out model.onnx`, or use it all the same by saying what it cannot: its classes "
    "and its preprocessing (--classes, --preprocessing)."
)
_DAMAGED_HINT = "Copy or export it again."


class Verification(BaseModel):
    """How the file was compared with the network it came from before it was called done.

    Measured figures are not kept here, so that the same bundle gives the same bytes on every machine.

    Attributes:
        verdict: `passed`, since a file that did not pass is never left behind; `not verified` of another tool's file.
        data: A sentence on the pictures it was run on.
        thresholds: Name of each figure and the limit that it was held to.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    verdict: Literal["passed", "not verified"] = "passed"
    data: str
    thresholds: dict[str, float]


UNVERIFIED = Verification(
    verdict="not verified", data="another tool made this file, and the network it came from is not known", thresholds={}
)

FeatureLayout = Literal["maps", "as it is"]


class Feature(BaseModel):
    """An output that gives what a layer inside the network returned.

    Attributes:
        output: Its name among the file's outputs.
        layer: The layer's name in the network.
        layout: `maps` for float32 [N, C, h, w]; `as it is` where the layer's output is no map of the picture.
        shape: For one picture, without N.
    """

    model_config = ConfigDict(frozen=True)

    output: str
    layer: str
    layout: FeatureLayout
    shape: tuple[int, ...]


class Metadata(BaseModel):
    """What the classifier needs to know about a file, and what a person may ask of it.

    Attributes:
        format_version: Of this description; readers refuse a newer one.
        input: `pixels` for decoded uint8 [N, H, W, 3] of any size, `float` for normalised float32 [N, C, h, w].
        classes: Label names in output order.
        preprocessing: From decoded pixels to the network's input; inside the graph where `input` is `pixels`.
        network: Name of the network.
        precision: What the network is computed in.
        calibration: A sentence on the pictures that the ranges of int8 were measured on; None of other forms.
        target_layer: Where the heat-map is read; None without one.
        method: How the heat-map is computed (`grad-cam`); None without one.
        method_title: The same as people write it (`Grad-CAM`).
        features: Outputs that give feature maps.
        temperature: What logits are divided by before the softmax, so that probabilities are as sure as right; None
            where they are not.
        bundle: SHA-256 of the manifest of the bundle it was made from; empty for a network that had none.
        weights: SHA-256 of the file of weights it was made from, where there was no bundle; empty where there was one,
            or the weights came in no file.
        metrics: Of the bundle, by name.
        confusion_matrix: Counts [K][K], rows are the truth; None where no evaluation was given.
        external_data: The second file, where the weights are too large for one; None where the file stands alone.
        versions: Of the libraries that made the file, by name.
        verification: Against PyTorch, at export.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    format_version: int = Field(default=FORMAT_VERSION, ge=1)
    input: Literal["pixels", "float"] = "pixels"
    classes: tuple[str, ...] = Field(min_length=1)
    preprocessing: Preprocessing
    network: str
    precision: Precision = "fp32"
    calibration: str | None = None
    target_layer: str | None = None
    method: str | None = None
    method_title: str | None = None
    features: tuple[Feature, ...] = ()
    temperature: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    bundle: str = ""
    weights: str = ""
    metrics: dict[str, float] = {}
    confusion_matrix: list[list[int]] | None = None
    external_data: ExternalData | None = None
    versions: dict[str, str] = {}
    verification: Verification

    @model_validator(mode="after")
    def _is_consistent(self) -> Metadata:
        if (self.method is None) != (self.target_layer is None):
            raise ValueError("method and target_layer come together or not at all")
        matrix, num_classes = self.confusion_matrix, len(self.classes)
        if matrix is not None and (len(matrix) != num_classes or any(len(row) != num_classes for row in matrix)):
            raise ValueError(f"confusion_matrix must be {num_classes} by {num_classes}")
        return self

    @property
    def explains(self) -> bool:
        """Whether the file has a heat-map output and its `class_index` input."""
        return self.method is not None

    @property
    def title(self) -> str:
        """What to call the way in which the heat-map is computed; empty without one."""
        return self.method_title or self.method or ""


def to_properties(metadata: Metadata) -> dict[str, str]:
    """The metadata as ONNX properties, in a fixed order, with an empty seal.

    Returns:
        Key to JSON. `cutaway.sha256` holds 64 zeros until `seal` fills them.
    """
    fields = metadata.model_dump(mode="json")
    properties = {_FORMAT_KEY: str(fields.pop("format_version"))}
    properties |= {_PREFIX + name: to_json(value, inf_nan_mode="strings").decode() for name, value in fields.items()}
    return properties | {_SEAL_KEY: _UNSEALED.decode()}


def from_properties(properties: Mapping[str, str]) -> Metadata:
    """Reads what `to_properties` wrote.

    Args:
        properties: Of an ONNX file, for example `session.get_modelmeta().custom_metadata_map`.

    Raises:
        ServingError: The file is not one of ours, its format is newer than this program, or its metadata is damaged.
    """
    if not is_ours(properties):
        raise ServingError("The ONNX file was not made by cutaway: it has no cutaway metadata.", hint=_NOT_OURS_HINT)
    version = properties[_FORMAT_KEY]
    if not (version.isascii() and version.isdigit()):
        raise ServingError(f"The ONNX file's metadata is damaged: its format is {version[:20]!r}.", hint=_DAMAGED_HINT)
    if len(version) > 9 or int(version) > FORMAT_VERSION:
        raise ServingError(
            f"The ONNX file has format {version[:20]}, and this cutaway reads formats up to {FORMAT_VERSION}.",
            hint="Install a newer cutaway.",
        )
    fields: dict[str, object] = {"format_version": int(version)}
    try:
        for name in Metadata.model_fields:
            if name != "format_version" and _PREFIX + name in properties:
                fields[name] = from_json(properties[_PREFIX + name])
        metadata = Metadata.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"The ONNX file's metadata is damaged: {where or 'it'}: {first['msg']}."
        raise ServingError(message, hint=_DAMAGED_HINT) from error
    except ValueError as error:
        raise ServingError(f"The ONNX file's metadata is damaged: {error}.", hint=_DAMAGED_HINT) from error
    if metadata.verification.verdict != "passed":
        raise ServingError("The ONNX file's metadata is damaged: it was never verified.", hint=_DAMAGED_HINT)
    return metadata


def is_ours(properties: Mapping[str, str]) -> bool:
    """Whether a file claims to be one of ours."""
    return _FORMAT_KEY in properties


def seal(data: bytes) -> bytes:
    """Writes into the file's `cutaway.sha256` the SHA-256 of the file with that field zeroed.

    Args:
        data: A serialised ONNX file that carries the properties of `to_properties`.

    Raises:
        ServingError: There is no such field, or more than one.
    """
    start = _seal_start(data)
    return b"".join((data[:start], _digest(data, start), data[start + len(_UNSEALED) :]))


def check_seal(data: bytes) -> None:
    """Compares the file with its seal, so that a torn or altered file is never served.

    Raises:
        ServingError: The file has no seal, or is not the file that was sealed.
    """
    start = _seal_start(data)
    if data[start : start + len(_UNSEALED)] != _digest(data, start):
        raise ServingError("The ONNX file is damaged: it is not the file that was exported.", hint=_DAMAGED_HINT)


def _seal_start(data: bytes) -> int:
    found = data.find(_SEAL_MARKER)
    if not data:
        raise ServingError("The model file is empty.", hint=_DAMAGED_HINT)
    if found < 0 and data[0] != _FIRST_BYTE:
        raise ServingError("This is no ONNX file.", hint="Give one that `cutaway export` made.")
    if found < 0:
        message = "The ONNX file carries no cutaway seal: it is damaged or was not made by cutaway."
        raise ServingError(message, hint=_NOT_OURS_HINT)
    if data.find(_SEAL_MARKER, found + 1) >= 0:
        raise ServingError("The ONNX file is damaged: it carries more than one seal.", hint=_DAMAGED_HINT)
    return found + len(_SEAL_MARKER)


def _digest(data: bytes, start: int) -> bytes:
    view, hasher = memoryview(data), hashlib.sha256()
    for part in (view[:start], _UNSEALED, view[start + len(_UNSEALED) :]):
        hasher.update(part)
    return hasher.hexdigest().encode()
