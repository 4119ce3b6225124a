"""`cutaway serve`."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.classifying import ClassifierOptions, Classifying, load_classifier
from cutaway.cli.terminal import say
from cutaway.errors import SettingsError


@dataclass(frozen=True)
class ServeOptions:
    """Classify uploaded pictures in the browser and over HTTP, from the ONNX file alone."""

    model: tyro.conf.Positional[Path]
    """An ONNX file that cutaway export made, or with --classes and --preprocessing another tool's."""
    host: str = "127.0.0.1"
    """Address to listen on; by default this machine alone can reach it."""
    port: int = 7860
    """0 takes a free one."""
    page: bool = True
    """With the page, or the HTTP API alone."""
    allowed_hosts: tuple[str, ...] = ()
    """Further host names that requests may name."""
    classifying: Classifying = field(default_factory=ClassifierOptions)


def run_serve(arguments: Sequence[str]) -> None:
    """Serves until SIGTERM or SIGINT."""
    serve_file(parse(ServeOptions, "serve", arguments))


def serve_file(options: ServeOptions) -> None:
    """Loads the file and serves it; says where once it really listens."""
    if not 0 <= options.port <= 65535:
        raise SettingsError(f"--port must lie between 0 and 65535, not {options.port}.", hint="0 takes a free one.")
    from cutaway.serve.api import create_app
    from cutaway.serve.server import serve

    classifier = load_classifier(options.model, options.classifying)
    public = options.host not in ("127.0.0.1", "localhost", "::1")
    hosts = [*options.allowed_hosts, options.host, *([socket.gethostname()] if public else [])]
    app = create_app(classifier, page=options.page, hosts=hosts)
    if public:
        print("Other machines can reach this server, and nothing asks them for a key.", file=sys.stderr)
    serve(
        app,
        host=options.host,
        port=options.port,
        on_ready=lambda url: say(f"serving {options.model} on {url} (Ctrl+C stops it)"),
    )
