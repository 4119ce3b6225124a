"""The pictures in the body of a request, however they were sent; nothing is decoded here, and no address is fetched."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Annotated, Any, NamedTuple

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from cutaway.serve.slots import in_thread

__all__ = ["Sent", "body_schema", "pictures_of", "refuse_encoding"]

RAW_KINDS = (
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "image/bmp",
    "image/tiff",
    "application/octet-stream",
)
_MOST_BESIDE_PICTURES = 10_000


class Sent(NamedTuple):
    """A picture as it was sent.

    Attributes:
        name: Of the file; None where it was sent without one.
        data: The bytes of the file.
    """

    name: str | None
    data: bytes


class JsonPictures(BaseModel):
    """Pictures as JSON.

    Attributes:
        images: The bytes of one file each, in base64.
    """

    # Further fields are refused afterwards, and one wrong element is told: an error for each of millions would fill
    # memory.
    model_config = ConfigDict(extra="allow", strict=True)

    images: Annotated[list[str], Field(min_length=1, fail_fast=True)]


async def pictures_of(request: Request, max_images: int) -> list[Sent]:
    """The pictures of a form, of JSON, or the one that is the body.

    Raises:
        HTTPException: 400, 413, 415 or 422, in words.
    """
    refuse_encoding(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _of_form(request, max_images)
    if kind == "application/json":
        return await in_thread(_of_json, await request.body(), max_images)
    if kind.startswith("image/") or kind == "application/octet-stream":
        data = await request.body()
        if not data:
            raise HTTPException(422, "The body is empty: send the bytes of a picture.")
        return [Sent(None, data)]
    detail = f"{kind[:100] or 'A body without Content-Type'} is not taken: send a form with field images, JSON with "
    raise HTTPException(415, detail + "images in base64, or the bytes of a picture as image/png, image/jpeg and so on.")


def refuse_encoding(request: Request) -> None:
    """A small compressed body could become any size.

    Raises:
        HTTPException: 415, where the body is compressed.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        detail = f"Content-Encoding {encoding[:100]} is not taken: send the body as it is."
        raise HTTPException(415, detail, headers={"Accept-Encoding": "identity"})


def body_schema(max_images: int) -> dict[str, Any]:
    """The request body as OpenAPI describes it."""
    many = {"type": "array", "minItems": 1, "maxItems": max_images}
    files = many | {"items": {"type": "string", "format": "binary"}}
    in_base64 = many | {"items": {"type": "string", "minLength": 1, "format": "byte", "contentEncoding": "base64"}}
    raw = {"schema": {"type": "string", "format": "binary"}}
    return {
        "required": True,
        "description": "Pictures: PNG, JPEG, WebP, GIF, BMP or TIFF, of which the first picture counts.",
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["images"], "properties": {"images": files}}
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {"images": in_base64},
                    "additionalProperties": False,
                }
            },
            **dict.fromkeys(RAW_KINDS, raw),
        },
    }


async def _of_form(request: Request, max_images: int) -> list[Sent]:
    async with request.form(max_files=max_images + 1, max_fields=16) as form:
        sent = form.getlist("images")
        if not sent or any(not isinstance(part, UploadFile) for part in sent):
            raise HTTPException(422, "The form has no pictures: send each as a file in field images.")
        _refuse_too_many(len(sent), max_images)
        return [Sent(part.filename, await part.read()) for part in sent if isinstance(part, UploadFile)]


def _of_json(body: bytes, max_images: int) -> list[Sent]:
    how = 'Send {"images": ["…", "…"]}, each a file in base64.'
    # Read, an element takes many times the memory of its letters; base64 has none of these.
    if sum(map(body.count, (b"[", b"{", b","))) > max_images + _MOST_BESIDE_PICTURES:
        raise HTTPException(413, f"The JSON has far more elements than {max_images} pictures. {how}")
    try:
        sent = JsonPictures.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise HTTPException(400, "The body is not JSON.") from error
        where = ".".join(str(part) for part in first["loc"])[:100]
        raise HTTPException(422, f"{where or 'The body'}: {first['msg']}. {how}") from error
    if sent.model_extra:
        raise HTTPException(422, f"There is no field {next(iter(sent.model_extra))[:100]!r}. {how}")
    _refuse_too_many(len(sent.images), max_images)
    return [Sent(None, _from_base64(text, number)) for number, text in enumerate(sent.images, start=1)]


def _from_base64(text: str, number: int) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        detail = f"Picture {number} is not base64: send the bytes of a file. Addresses are not fetched."
        raise HTTPException(422, detail) from error


def _refuse_too_many(count: int, max_images: int) -> None:
    if count > max_images:
        raise HTTPException(413, f"More than {max_images} pictures in one request.")
