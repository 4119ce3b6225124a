"""What a bundle says of itself: the manifest, validated in both directions."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from cutaway.checkpoints.migrations import migrate
from cutaway.errors import DamagedBundleError
from cutaway.networks import NetworkSpec
from cutaway.preprocessing import Preprocessing

SCHEMA_VERSION = 3
Phase = Literal["training", "validated"]
FILE_NAME = re.compile(r"[a-z][a-z0-9_]*\.safetensors")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class FileEntry(_Part):
    """One file of a bundle.

    Attributes:
        blake3: The hash of its bytes, as hex; none in bundles before schema 3.
        sha256: Likewise, in bundles before schema 3 only.
        bytes: Its size.
    """

    blake3: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)

    @model_validator(mode="after")
    def _has_one_hash(self) -> FileEntry:
        if (self.blake3 is None) == (self.sha256 is None):
            raise ValueError("a file has one hash, blake3 or sha256")
        return self

    @model_serializer(mode="wrap")
    def _without_the_other(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}

    @property
    def digest(self) -> str:
        """Whichever hash it has."""
        return self.blake3 or self.sha256 or ""


class Progress(_Part):
    """How far training had come: `batch` batches into the epoch after `epoch` whole ones, `step` steps in all."""

    epoch: int = Field(ge=0, lt=2**53)
    batch: int = Field(ge=0, lt=2**53)
    step: int = Field(ge=0, lt=2**53)


class Monitored(_Part):
    """The metric that the best bundle is chosen by."""

    metric: str
    mode: Literal["max", "min"]


class Data(_Part):
    """The data set that a bundle was trained on, recognisable but without a path."""

    name: str
    fingerprint: str
    source: str
    sizes: dict[str, int]


class Environment(_Part):
    """Where a bundle was made; without a path or the name of the machine."""

    versions: dict[str, str]
    device: str
    threads: int
    platform: str
    commit: str | None = None


class Resumption(_Part):
    """One time that a run went on from a bundle.

    Attributes:
        step: Of the bundle.
        equality: What may be said of the run from here on, against one that was never interrupted: `bitwise` the same;
            within `rounding`; `statistical`, where something random draws differently; or `overridden`, where a person
            changed a setting.
        because: What differs.
    """

    step: int = Field(ge=0)
    equality: Literal["bitwise", "rounding", "statistical", "overridden"]
    because: tuple[str, ...] = ()


class Manifest(_Part):
    """Everything about a bundle but its tensors.

    Attributes:
        phase: `training` within an epoch, `validated` after one whose metrics are known.
        configuration: The run's settings.
        resumed: Each time that the run went on from a bundle.
        optimizer: The optimizer's parameter groups, by the names of their parameters.
        state: What else training has to remember and is no tensor, such as the count of an early stopping.
    """

    schema_version: int = SCHEMA_VERSION
    network: NetworkSpec
    classes: tuple[str, ...] = Field(min_length=1)
    preprocessing: Preprocessing
    progress: Progress
    phase: Phase
    metrics: dict[str, float]
    monitored: Monitored
    configuration: dict[str, JsonValue]
    optimizer: list[dict[str, JsonValue]]
    state: dict[str, JsonValue] = Field(default_factory=dict)
    data: Data
    environment: Environment
    resumed: tuple[Resumption, ...] = ()
    created: str
    files: dict[str, FileEntry]

    @field_validator("classes")
    @classmethod
    def _can_be_written(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        for number, name in enumerate(classes):
            if any("\ud800" <= char <= "\udfff" for char in name):
                raise ValueError(f"the name of class {number} is no text")
        return classes

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for name in files:
            if not FILE_NAME.fullmatch(name):
                raise ValueError(f"'{name}' is not a name that a file of a bundle can have")
        return files

    def to_json(self) -> bytes:
        """The manifest file's bytes; the same manifest always gives the same."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    def digest(self) -> str:
        """SHA-256 of the manifest file, which holds the hashes of all others: the bundle's hash."""
        return hashlib.sha256(self.to_json()).hexdigest()


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different, or readers could disagree about what it says."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Reads a manifest file.

    Args:
        data: The file's bytes.
        where: How the bundle is called in errors.

    Raises:
        BundleError: It is not JSON, or says a thing twice; it is newer than this cutaway, or not what the schema says.
    """
    try:
        raw: Any = json.loads(data, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise DamagedBundleError(
            f"The manifest of {where} is not valid JSON.", hint="The bundle is damaged."
        ) from error
    if isinstance(raw, dict):
        raw = migrate(raw, SCHEMA_VERSION, where)
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in fault["loc"]) or "the whole"
        raise DamagedBundleError(
            f"The manifest of {where} is not valid at '{at}': {fault['msg']}.",
            hint="The bundle is damaged, or no cutaway wrote it.",
        ) from error
