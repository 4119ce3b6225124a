"""From the manifests of older versions to today's: a table of small functions, one for each step, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cutaway.errors import BundleError

RawManifest = dict[str, Any]


def _to_2(raw: RawManifest) -> RawManifest:
    """Schema 2 keeps the history of resumes."""
    return raw | {"resumed": []}


def _to_3(raw: RawManifest) -> RawManifest:
    """Schema 3 keeps what training has to remember beside its tensors. Files written before keep their SHA-256."""
    return raw | {"state": {}}


# The version that a function reads -> the function that gives the next one. A version once released stays here for
# ever, and a stored bundle of it stays under test.
MIGRATIONS: dict[int, Callable[[RawManifest], RawManifest]] = {1: _to_2, 2: _to_3}


def migrate(raw: RawManifest, to: int, where: str) -> RawManifest:
    """Brings a manifest's raw values up to a schema version, step by step, without changing what it was given.

    Args:
        raw: As read from JSON.
        to: The version that this cutaway writes.
        where: How the bundle is called in errors.

    Raises:
        BundleError: The manifest names no version, one newer than `to`, or one that never was.
    """
    version = raw.get("schema_version")
    if type(version) is not int or version < 1:
        raise BundleError(
            f"The manifest of {where} is not valid at 'schema_version': {version!r} is no version.",
            hint="The bundle is damaged, or no cutaway wrote it.",
        )
    if version > to:
        raise BundleError(
            f"{where} has manifest schema {version}; this cutaway knows up to {to}.", hint="Update cutaway to read it."
        )
    for step in range(version, to):
        raw = MIGRATIONS[step](raw) | {"schema_version": step + 1}
    return raw
