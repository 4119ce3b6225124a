"""Running the application: binding, saying when it listens, and going down without losing what was accepted."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import uvicorn
from fastapi import FastAPI

from cutaway.errors import ServingError
from cutaway.serve.slots import Slots

__all__ = ["Tls", "running", "serve"]

DRAIN_SECONDS = 20.0
_START_SECONDS = 60.0


class Tls(NamedTuple):
    """What an encrypted server shows and keeps.

    Attributes:
        certificate: PEM file of the certificate and those that vouch for it.
        key: PEM file of its private key.
    """

    certificate: Path
    key: Path


def serve(
    app: FastAPI,
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    on_ready: Callable[[str], None] | None = None,
    drain_seconds: float = DRAIN_SECONDS,
    tls: Tls | None = None,
) -> signal.Signals | None:
    """Serves until SIGTERM or SIGINT, then answers what was accepted and returns. A second SIGINT does not wait.

    Args:
        app: Of `create_app`.
        host: Address to listen on; 127.0.0.1 is reached from this machine only.
        port: 0 takes a free one.
        on_ready: Called once with the address for a browser, when the server really listens.
        drain_seconds: How long accepted requests may take after the signal, before they are cancelled.
        tls: Certificate and key; without them the server speaks plain HTTP.

    Returns:
        The signal that ended it; the process ends as its caller likes.

    Raises:
        ServingError: The address cannot be listened on, or the certificate cannot be used.
    """
    if tls is not None:
        check_tls(tls)
    server = _Server(app, bind(host, port), host, on_ready, drain_seconds, tls)
    server.run()
    return server.ended_by


@contextlib.contextmanager
def running(app: FastAPI, host: str = "127.0.0.1", port: int = 0, *, tls: Tls | None = None) -> Iterator[str]:
    """Serves in a thread for as long as the context lasts, for tests and notebooks.

    Args:
        app: Of `create_app`.
        host: Address to listen on.
        port: 0 takes a free one.
        tls: As of `serve`.

    Yields:
        The address for a browser, once the server listens.
    """
    ready: list[str] = []
    listening = threading.Event()

    def note(url: str) -> None:
        ready.append(url)
        listening.set()

    def run() -> None:
        try:
            server.run()
        finally:
            listening.set()

    if tls is not None:
        check_tls(tls)
    server = _Server(app, bind(host, port), host, note, DRAIN_SECONDS, tls)
    thread = threading.Thread(target=run, name="cutaway server")
    thread.start()
    try:
        listening.wait(_START_SECONDS)
        if not ready:
            raise ServingError("The server did not start.", hint="Its log says why.")
        yield ready[0]
    finally:
        server.should_exit = True
        thread.join()


def check_tls(tls: Tls) -> None:
    """Refuses files that are no certificate and its key, in words and before anything listens.

    Raises:
        ServingError: They cannot be read, are not PEM, need a password, or don't belong together.
    """
    for file in tls:
        if not file.is_file():
            raise ServingError(f"There is no file {file}.", hint="Give the certificate and its key as PEM files.")
    try:
        # An empty password is never the right one, and keeps OpenSSL from asking for it on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password="")
    except (ssl.SSLError, OSError) as error:
        said = error.strerror or "they are not PEM"
        raise ServingError(
            f"{tls.certificate} and {tls.key} cannot be used: {said}.",
            hint="Give a certificate chain and its key as PEM files, the key without a password.",
        ) from error


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ServingError: The port is taken, needs rights, or the host is not an address of this machine.
    """
    if not 0 <= port <= 65535:
        raise ServingError(f"The port must lie between 0 and 65535, not {port}.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ServingError(f"{host!r} is not a host name or address.", hint="Use 127.0.0.1 or 0.0.0.0.") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Or the second part of every answer waits 40 ms for the first one to be acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise _binding_error(host, port, error) from error
    return listener


def _binding_error(host: str, port: int, error: OSError) -> ServingError:
    if error.errno == errno.EADDRINUSE:
        return ServingError(f"Port {port} is already in use.", hint="Give another with --port, or 0 for a free one.")
    if error.errno == errno.EACCES:
        return ServingError(
            f"Port {port} may not be used without more rights.", hint="Give one above 1023 with --port."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ServingError(f"{host} is not an address of this machine.", hint="Use 127.0.0.1 or 0.0.0.0.")
    return ServingError(f"The server cannot listen on {host} port {port}: {error.strerror}.")


class _Server(uvicorn.Server):
    """uvicorn's server, which otherwise ends by the signal it caught and waits for open pages for ever."""

    def __init__(
        self,
        app: FastAPI,
        listener: socket.socket,
        host: str,
        on_ready: Callable[[str], None] | None,
        drain_seconds: float,
        tls: Tls | None,
    ) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="on",
            ws="none",
            server_header=False,
            proxy_headers=False,
            # uvicorn takes whole seconds only by its annotation; it hands them to asyncio.wait_for.
            timeout_graceful_shutdown=drain_seconds,  # type: ignore[arg-type]
            ssl_certfile=None if tls is None else tls.certificate,
            ssl_keyfile=None if tls is None else tls.key,
        )
        super().__init__(config)
        self.ended_by: signal.Signals | None = None
        self._app = app
        self._listener = listener
        self._host = host
        self._on_ready = on_ready
        self._drain_seconds = drain_seconds
        self._scheme = "http" if tls is None else "https"

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            super().run(sockets=[self._listener])
        except SystemExit as error:  # uvicorn's way of saying that the application did not start
            raise ServingError("The application did not start.", hint="Its log says why.") from error
        finally:
            self._listener.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and self._on_ready is not None:
            self._on_ready(_address(self._host, self._listener.getsockname()[1], self._scheme))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.ready = False
        letting_go = asyncio.create_task(self._let_pages_go())
        try:
            await super().shutdown(sockets=sockets)
        finally:
            letting_go.cancel()

    async def _let_pages_go(self) -> None:
        """Ends the streams that open pages hold, once no answer is under way that they could still carry."""
        slots: Slots = self._app.state.slots
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_seconds / 2):
                await slots.idle()
        for end_streams in self._app.state.end_streams:
            end_streams()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        caught = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in caught}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.ended_by is None:
            self.ended_by = signal.Signals(sig)
        super().handle_exit(sig, frame)


def _address(host: str, port: int, scheme: str = "http") -> str:
    """For a browser on this machine, whatever was bound."""
    if host in ("0.0.0.0", "", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
