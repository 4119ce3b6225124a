"""A client of the HTTP API, in the types that the server answers with. It needs no PyTorch and no ONNX Runtime."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from cutaway.errors import CutawayError, ImageError, ServingError
from cutaway.images import Pixels, encode_png, read_bytes
from cutaway.serve.answers import ClassifyAnswer, ModelAnswer, PictureAnswer

__all__ = ["Client", "Picture", "RefusedError"]

Picture = Path | str | bytes | Pixels
"""A file, the bytes of one, or decoded pixels: uint8 [H, W, 3 or 1]."""

Answer = TypeVar("Answer", bound=BaseModel)

_TRIES_WHEN_BUSY = 5
_LONGEST_WAIT_S = 30.0


class RefusedError(ServingError):
    """The server refused a request, in its own words.

    Attributes:
        status: HTTP status code.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Client:
    """Talks to one server; may be used from many threads, and closes its connections when its context ends.

    Args:
        url: Of the server, as `http://127.0.0.1:7860`, with the path that a proxy shows it under.
        key: An API key, where the server asks for one.
        timeout: Seconds to wait for an answer.
        certificates: PEM file of those to trust, where the server's certificate is one's own.

    Raises:
        ServingError: The address is none of HTTP.

    Example:
        >>> with Client("http://127.0.0.1:7860") as client:
        ...     (answer,) = client.classify(["shirt.png"], top_k=1)
        ...     print(answer.top[0].label)
        T-shirt/top
    """

    def __init__(
        self, url: str, *, key: str | None = None, timeout: float = 120.0, certificates: Path | None = None
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ServingError(f"{url!r} is not the address of a server.", hint="Write it as http://127.0.0.1:7860.")
        self.url = url.rstrip("/")
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        try:
            self._http = httpx.Client(
                base_url=self.url,
                headers=headers,
                timeout=timeout,
                verify=True if certificates is None else _trusting(certificates),
                follow_redirects=False,
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise ServingError(f"{url!r} is not the address of a server, or the key is no text.") from error

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def is_ready(self) -> bool:
        """Whether a server answers there, with its network loaded and warm."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def model(self, name: str | None = None) -> ModelAnswer:
        """What the server says of one of its networks.

        Args:
            name: Of the model; None for the first.

        Raises:
            RefusedError: The server refuses, or has no such model.
            ServingError: No server answers, or it is another one.
        """
        return self._ask("GET", "/v1/model", ModelAnswer, query={} if name is None else {"model": name})

    def classify(
        self,
        pictures: Sequence[Picture],
        *,
        top_k: int = 5,
        explain: Literal["none", "overlay", "numbers"] = "none",
        class_index: int = -1,
        model: str | None = None,
    ) -> list[PictureAnswer]:
        """Classifies pictures in one request; where the server is busy, waits as long as it says and asks again.

        Args:
            pictures: Files, their bytes, or pixels.
            top_k: How many classes to name.
            explain: Heat-map: none, an overlay, or its numbers.
            class_index: The class to explain; -1 is the top class.
            model: Name of the one to ask; None for the server's first.

        Raises:
            ImageError: A file cannot be read.
            RefusedError: The server refuses a picture or parameter, or stays busy.
            ServingError: No server answers, or it is another one.
        """
        if not pictures:
            return []
        files = [("images", _as_file(picture)) for picture in pictures]
        query: dict[str, str | int] = {"top_k": top_k, "explain": explain, "class_index": class_index}
        if model is not None:
            query["model"] = model
        answer = self._ask("POST", "/v1/classify", ClassifyAnswer, files=files, query=query)
        if len(answer.results) != len(pictures):
            raise ServingError(f"{self.url} answered for {len(answer.results)} pictures of {len(pictures)}.")
        return answer.results

    def _ask(
        self,
        method: str,
        path: str,
        kind: type[Answer],
        *,
        files: Sequence[tuple[str, tuple[str, bytes]]] | None = None,
        query: dict[str, str | int] | None = None,
    ) -> Answer:
        response = self._answer(method, path, files, query)
        for _ in range(_TRIES_WHEN_BUSY - 1):
            if response.status_code != 503:
                break
            time.sleep(_seconds(response.headers.get("retry-after", "1")))
            response = self._answer(method, path, files, query)
        if response.status_code != 200:
            raise RefusedError(response.status_code, f"{self.url}: {_words(response)}")
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            raise ServingError(f"{self.url} is not a cutaway server, or one of another version.") from error

    def _answer(
        self,
        method: str,
        path: str,
        files: Sequence[tuple[str, tuple[str, bytes]]] | None,
        query: dict[str, str | int] | None,
    ) -> httpx.Response:
        try:
            return self._http.request(method, path, files=files, params=query)
        except httpx.TimeoutException as error:
            raise ServingError(f"{self.url} did not answer in time.", hint="Send fewer pictures at once.") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
            hint = "Name the certificates to trust, where it is one of your own." if untrusted else "Is it running?"
            raise ServingError(f"No server answers at {self.url}: {error}.", hint=hint) from error


def _as_file(picture: Picture) -> tuple[str, bytes]:
    if isinstance(picture, bytes):
        return "picture", picture
    if isinstance(picture, Path | str):
        path = Path(picture)
        return path.name.encode("utf-8", "replace").decode(), read_bytes(path)
    if picture.dtype != "uint8" or picture.ndim != 3 or picture.shape[2] not in (1, 3):
        raise ImageError(f"Pixels are uint8 [H, W, 3 or 1], not {picture.dtype} {list(picture.shape)}.")
    return "picture.png", encode_png(picture)


def _words(response: httpx.Response) -> str:
    """What a server says of its refusal; of something else at that address, the status."""
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = None
    return detail if isinstance(detail, str) else f"it answered with status {response.status_code}."


def _seconds(retry_after: str) -> float:
    return min(float(retry_after), _LONGEST_WAIT_S) if retry_after.isascii() and retry_after.isdigit() else 1.0


def _trusting(certificates: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(certificates))
    except (OSError, ssl.SSLError) as error:
        raise CutawayError(f"{certificates} cannot be read as certificates.", hint="Give a PEM file.") from error
