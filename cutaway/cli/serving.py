"""`cutaway serve`."""

from __future__ import annotations

import math
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from cutaway.cli import complain
from cutaway.cli.arguments import parse
from cutaway.cli.classifying import ClassifierOptions, Classifying, load_classifier
from cutaway.cli.served_runs import ServedRun, is_reference, prepare
from cutaway.cli.terminal import say
from cutaway.errors import CutawayError, ServingError, SettingsError
from cutaway.images import Limits

if TYPE_CHECKING:
    from cutaway.serve.limits import ServingLimits
    from cutaway.serve.micro_batches import MicroBatching
    from cutaway.serve.models import Served


@dataclass(frozen=True)
class ServeOptions:
    """Classify uploaded pictures in the browser and over HTTP, from the ONNX file alone."""

    model: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[MODEL]")] = None
    """An ONNX file that cutaway export made, or with --classes and --preprocessing another tool's; or a run or a
    bundle, which is exported into the run's folder first unless the file there was made of it."""
    models: Annotated[
        tuple[str, ...], tyro.conf.arg(name="model", metavar="NAME=MODEL"), tyro.conf.UseAppendAction
    ] = ()
    """In place of MODEL, and once for each where there are several: a name, and what MODEL may be. Each has a page of
    its own; the first answers where a request names none."""
    watch: bool = False
    """Serve another file as soon as it has taken the place of the one that is served, once it is checked and warm."""
    host: str = "127.0.0.1"
    """Address to listen on; by default this machine alone can reach it."""
    port: int = 7860
    """0 takes a free one."""
    page: bool = True
    """With the page, or the HTTP API alone."""
    allowed_hosts: tuple[str, ...] = ()
    """Further host names that requests may name, such as the one that a proxy shows."""
    api_key_file: Path | None = None
    """File with API keys, one a line; the API asks for one, and the page for a login with one."""
    cors_origins: tuple[str, ...] = ()
    """Foreign web pages whose scripts may use the API, as https://name."""
    root_path: str = ""
    """Path under which a proxy shows the server, as /classify."""
    tls_cert: Path | None = None
    """PEM file of a certificate: the server then speaks HTTPS."""
    tls_key: Path | None = None
    """PEM file of its private key."""
    name: str | None = None
    """Of the model in addresses; by default its file's. With --model NAME=MODEL names stand there."""
    max_mb: float = 64.0
    """Megabytes (2**20 bytes) of one request, and of one picture."""
    max_megapixels: float = 100.0
    """Of one picture."""
    max_images: int = 32
    """Pictures in one request."""
    concurrency: int = 2
    """Requests that use the network at once, of the page and the API together; with --micro-batch, runs at once."""
    queue: int = 32
    """Requests that may wait beyond those; further ones are told to come back."""
    time_limit: float = 60.0
    """Seconds that a request may use the network; then it is stopped. It may take as many to arrive."""
    micro_batch: int = 1
    """Pictures of different requests that go through the network in one run; 1 for a run each."""
    micro_batch_wait_ms: float = 2.0
    """Milliseconds that the first request of a run waits for others."""
    log_requests: bool = False
    """Write a line of JSON for each request to stderr, without anything of the pictures."""
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
    if (options.tls_cert is None) != (options.tls_key is None):
        raise SettingsError("--tls-cert and --tls-key belong together.", hint="Give both or none.")
    limits = _limits(options)
    from cutaway.serve.api import create_app
    from cutaway.serve.keys import read_keys
    from cutaway.serve.observing import log_reloads, log_requests
    from cutaway.serve.server import Tls, check_tls, serve

    keys = None if options.api_key_file is None else read_keys(options.api_key_file)
    tls = None if options.tls_cert is None or options.tls_key is None else Tls(options.tls_cert, options.tls_key)
    if tls is not None:
        check_tls(tls)
    models = [_named_load(name, path, options) for name, path in _named(options)]
    public = options.host not in ("127.0.0.1", "localhost", "::1")
    app = create_app(
        models,
        page=options.page,
        hosts=[*options.allowed_hosts, options.host, *([socket.gethostname()] if public else [])],
        limits=limits,
        keys=keys,
        origins=options.cors_origins,
        root_path=options.root_path,
    )
    if public:
        _warn(keys is not None, tls is not None)
    if options.log_requests:
        log_requests(sys.stderr)
    elif options.watch:
        log_reloads(sys.stderr)
    said = ", ".join(str(each.now.classifier.path) for each in models)
    serve(
        app,
        host=options.host,
        port=options.port,
        on_ready=lambda url: say(f"serving {said} on {url} (Ctrl+C stops it)"),
        tls=tls,
    )


def _named(options: ServeOptions) -> list[tuple[str | None, Path]]:
    """The models that are asked for, with the names that are said of them.

    Raises:
        SettingsError: There is none, or what is said of them does not go together.
    """
    if options.model is not None:
        if options.models:
            raise SettingsError(
                f"{options.model} and --model both say what to serve.", hint="Name each: --model NAME=MODEL."
            )
        return [(options.name, options.model)]
    if not options.models:
        raise SettingsError("There is no model to serve.", hint="Give an ONNX file or a run.")
    if options.name is not None:
        raise SettingsError("--name is the name of one model.", hint="With --model NAME=MODEL names stand there.")
    if len(options.models) > 1 and options.classifying != ClassifierOptions(provider=options.classifying.provider):
        raise SettingsError(
            "--classes, --preprocessing and --scores say what one file is, and here are several.",
            hint="Serve another tool's file by itself.",
        )
    named: list[tuple[str | None, Path]] = []
    for text in options.models:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise SettingsError(
                f"--model {text} is not of the form NAME=MODEL.", hint="Write --model shoes=shoes.onnx."
            )
        named.append((name, Path(path)))
    return named


def _named_load(name: str | None, path: Path, options: ServeOptions) -> Served:
    """A model of those that are asked for; where it has a name, its failure says which one it is."""
    try:
        return _load(name, path, options)
    except CutawayError as error:
        if not options.models:
            raise
        raise ServingError(f"model {name}: {error.message}", hint=error.hint) from error


def _load(name: str | None, path: Path, options: ServeOptions) -> Served:
    """A model under its name, exported first where it is a run."""
    from cutaway.serve.models import Loaded, Served, model_name
    from cutaway.serve.watched_file import Watch

    prepared = ServedRun(path)
    if is_reference(path):
        prepared = prepare(str(path), allow_code=options.allow_code, page=options.page)
    load = partial(load_classifier, prepared.model, options.classifying, _micro_batching(options))
    watch = Watch(prepared.model, load) if options.watch else None
    classifier = load()
    return Served(name or model_name(classifier.file_name), Loaded(classifier, tabs=prepared.tabs), watch)


def _limits(options: ServeOptions) -> ServingLimits:
    positive = {
        "--max-mb": options.max_mb,
        "--max-megapixels": options.max_megapixels,
        "--max-images": options.max_images,
        "--concurrency": options.concurrency,
        "--micro-batch": options.micro_batch,
        "--time-limit": options.time_limit,
    }
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise SettingsError(f"{name} must be more than 0, not {value}.")
    if options.queue < 0:
        raise SettingsError(f"--queue must be at least 0, not {options.queue}.")
    if not 0 <= options.micro_batch_wait_ms < math.inf:
        raise SettingsError(f"--micro-batch-wait-ms must be at least 0, not {options.micro_batch_wait_ms}.")
    from cutaway.serve.limits import ServingLimits

    max_bytes = int(options.max_mb * 2**20)
    return ServingLimits(
        max_body_bytes=max_bytes,
        max_images=options.max_images,
        image=Limits(max_bytes=max_bytes, max_pixels=int(options.max_megapixels * 1e6)),
        running=options.concurrency * options.micro_batch,
        waiting=options.queue,
        time_limit=options.time_limit,
    )


def _micro_batching(options: ServeOptions) -> MicroBatching | None:
    if options.micro_batch == 1:
        return None
    from cutaway.serve.micro_batches import MicroBatching

    return MicroBatching(options.micro_batch, options.micro_batch_wait_ms / 1e3, options.concurrency)


def _warn(has_keys: bool, has_tls: bool) -> None:
    """Says what a server that other machines can reach leaves open."""
    if not has_keys:
        complain("Other machines can reach this server, and nothing asks them for a key.", "Give --api-key-file FILE.")
    elif not has_tls:
        complain(
            "Keys and pictures cross the network unencrypted.",
            "Give --tls-cert and --tls-key, or put a proxy in front.",
        )
