"""API keys: read from a file, compared in constant time, and exchanged for a cookie by whoever uses a browser."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Collection
from pathlib import Path

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from cutaway.errors import ServingError

__all__ = ["COOKIE", "Keys", "cookie_name", "read_keys"]

COOKIE = "cutaway_session"
SESSION_SECONDS = 12 * 3600

_SHORTEST = 16
_LARGEST_FILE = 2**20


class Keys:
    """The keys that open the server.

    Args:
        keys: Each at least 16 printable characters without spaces.

    Raises:
        ServingError: There is none, or one is too short or holds other characters.
    """

    def __init__(self, keys: Collection[str]) -> None:
        if not keys:
            raise ServingError("There are no API keys.", hint="Write one a line.")
        for number, key in enumerate(keys, start=1):
            if len(key) < _SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
                raise ServingError(
                    f"API key {number} is not at least {_SHORTEST} printable ASCII characters without spaces.",
                    hint="Make one with `openssl rand -hex 32`.",
                )
        self._digests = [_digest(key) for key in keys]
        self._secret = secrets.token_bytes(32)  # of this process: a restart ends all sessions

    def admit(self, headers: Headers) -> bool:
        """Whether a request brings a key, as `Authorization: Bearer` or `X-API-Key`, or the cookie of a session."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_key(token.strip()):
            return True
        return self.is_key(headers.get("x-api-key", "")) or self._has_session(headers)

    def is_key(self, text: str) -> bool:
        """Whether it is one of the keys; takes as long for a nearly right one as for any other."""
        given = _digest(text)
        found = False
        for digest in self._digests:
            found |= hmac.compare_digest(given, digest)
        return found

    def session(self) -> str:
        """The value of a cookie that opens the server for some hours."""
        ends = str(int(time.time()) + SESSION_SECONDS)
        return f"{ends}.{self._signature(ends)}"

    def _has_session(self, headers: Headers) -> bool:
        # Not by Python's own parser, which gives up on all cookies where one of another server here is written oddly.
        ends, _, signature = cookie_parser(headers.get("cookie", "")).get(cookie_name(headers), "").partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(ends).encode()):
            return False
        return int(ends) > time.time()

    def _signature(self, ends: str) -> str:
        return hmac.new(self._secret, ends.encode(), hashlib.sha256).hexdigest()


def cookie_name(headers: Headers) -> str:
    """With the port, where there is one: browsers give each server of a machine the cookies of all of them."""
    _, _, port = headers.get("host", "").rpartition(":")
    return f"{COOKIE}_{port}" if port.isdecimal() else COOKIE


def read_keys(path: Path) -> list[str]:
    """The keys in a file, one a line; lines that start with # and empty ones don't count.

    Raises:
        ServingError: It cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST_FILE)
    except OSError as error:
        raise ServingError(f"The API keys in {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ServingError(f"{path} is not text, and API keys are, one a line.") from error
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
