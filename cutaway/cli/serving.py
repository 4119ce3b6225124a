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
from cutaway.cli.served_runs import ServedRun, is_reference, prepare
from cutaway.cli.terminal import say
from cutaway.errors import SettingsError


@dataclass(frozen=True)
class ServeOptions:
    """Classify uploaded pictures in the browser and over HTTP, from the ONNX file alone."""

    model: tyro.conf.Positional[Path]
    """An ONNX file that cutaway export made, or with --classes and --preprocessing another tool's; or a run or a
    bundle, which is exported into the run's folder first unless the file there was made of it."""
    host: str = "127.0.0.1"
    """Address to listen on; by default this machine alone can reach it."""
    port: int = 7860
    """0 takes a free one."""
    page: bool = True
    """With the page, or the HTTP API alone."""
    allowed_hosts: tuple[str, ...] = ()
    """Further host names that requests may name."""
    allow_code: tuple[str, ...] = ()
    """Of a run: modules of your own that a network python:MODULE:FACTORY may be imported from."""
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

    served = ServedRun(options.model)
    if is_reference(options.model):
        served = prepare(str(options.model), allow_code=options.allow_code, page=options.page)
    classifier = load_classifier(served.model, options.classifying)
    public = options.host not in ("127.0.0.1", "localhost", "::1")
    hosts = [*options.allowed_hosts, options.host, *([socket.gethostname()] if public else [])]
    app = create_app(classifier, page=options.page, tabs=served.tabs, hosts=hosts)
    if public:
        print("Other machines can reach this server, and nothing asks them for a key.", file=sys.stderr)
    serve(
        app,
        host=options.host,
        port=options.port,
        on_ready=lambda url: say(f"serving {served.model} on {url} (Ctrl+C stops it)"),
    )
