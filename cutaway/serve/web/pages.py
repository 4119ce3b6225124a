"""Puts the page together: our own files, the network, what is known about it, its examples, and the runtime."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from cutaway import heatmaps
from cutaway.errors import ExportError
from cutaway.images import Limits
from cutaway.serve.classifier import Classifier
from cutaway.serve.examples import examples_of
from cutaway.serve.web import words
from cutaway.serve.web.folders import check_place
from cutaway.serve.web.runtime import BUILDS, Runtime
from cutaway.serve.writing import replace_folder

__all__ = ["WebPage", "write_page"]

MODEL = "model.onnx"
_SITE = Path(__file__).parent / "site"
_FAVICON = Path(__file__).parents[1] / "static" / "favicon.png"
# Browsers give WebAssembly 4 GiB at most, and the network takes its file's size more than once.
_LARGEST_MODEL = 2**30
# WebAssembly on a CPU has no operators for bfloat16.
_PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic")


@dataclass(frozen=True)
class WebPage:
    """A page that was written.

    Attributes:
        folder: Where; any file server can serve it.
        num_bytes: Of all its files.
        first_load: Bytes that a visitor's first visit takes, at most; WebGPU's files come only where they are used.
        num_examples: Pictures in its gallery.
        runtime_version: Of ONNX Runtime Web.
    """

    folder: Path
    num_bytes: int
    first_load: int
    num_examples: int
    runtime_version: str


def write_page(model: Path | str, folder: Path | str, runtime: Runtime) -> WebPage:
    """Writes a page that classifies with an exported file in the visitor's browser.

    Args:
        model: An ONNX file that `cutaway export` made; the examples beside it go along.
        folder: Where the page goes, whole or not at all; an earlier page there is replaced.
        runtime: Of `fetch_runtime` or `read_runtime`.

    Raises:
        ExportError: Something else is in the folder, it cannot be written, or the network cannot run in a browser.
        ServingError: The file or its examples are missing, damaged, or not made by cutaway.

    Example:
        >>> write_page("model.onnx", "site", fetch_runtime()).folder
    """
    model, folder = Path(model), Path(folder)
    check_place(folder)
    classifier = Classifier(model, provider="cpu")
    data = model.read_bytes()
    _check_fits_a_browser(classifier, model, len(data))
    examples = examples_of(model, classifier.classes)
    large = {MODEL: data} | {_published(name): content for name, content in runtime.files.items()}
    files = _own_files(classifier, runtime.version) | large
    files |= {f"examples/{example.path.name}": example.path.read_bytes() for example in examples}
    described = _description(classifier, runtime, files) | {
        "examples": [{"file": f"examples/{example.path.name}", "label": example.label} for example in examples]
    }
    described["version"] = _version(files, described)
    files["model.json"] = _as_json(described)
    on_demand = {_published(name) for name in BUILDS["webgpu"]}
    first = [name for name in files if name not in on_demand and name not in ("service-worker.js", "index.html")]
    stored = _as_json({"version": described["version"], "files": ["./", *sorted(first)]})
    files["files.js"] = b"self.CUTAWAY = " + stored + b";\n"
    replace_folder(folder, files, option="--web")
    return WebPage(
        folder=folder,
        num_bytes=sum(map(len, files.values())),
        first_load=sum(len(content) for name, content in files.items() if name not in on_demand),
        num_examples=len(examples),
        runtime_version=runtime.version,
    )


def _check_fits_a_browser(classifier: Classifier, model: Path, num_bytes: int) -> None:
    metadata = classifier.metadata
    if metadata.precision not in _PRECISIONS:
        raise ExportError(
            f"{model} is computed in {metadata.precision}, for which browsers have no operators on a CPU.",
            hint="Export it as fp32, fp16 or int8.",
        )
    external = metadata.external_data
    if external is not None or num_bytes > _LARGEST_MODEL:
        raise ExportError(
            f"{model} is too large for a browser, which takes networks up to 1 GiB in one file.",
            hint="Take a smaller network, or --precision int8.",
        )


def _own_files(classifier: Classifier, runtime_version: str) -> dict[str, bytes]:
    """The page's HTML, style and scripts."""
    metadata = classifier.metadata
    files = {path.name: path.read_bytes() for path in sorted(_SITE.iterdir()) if path.is_file()}
    page = Template(files["index.html"].decode())
    files["index.html"] = page.substitute(
        title=escape(f"cutaway · {metadata.network}"),
        header=words.header(metadata),
        how_to_read=words.how_to_read(metadata),
        facts=words.facts(metadata, MODEL, runtime_version),
        why_hidden="" if metadata.explains else " hidden",
    ).encode()
    return files | {"favicon.png": _FAVICON.read_bytes()}


def _description(classifier: Classifier, runtime: Runtime, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What the scripts need to know."""
    metadata, limits = classifier.metadata, Limits()

    def file(name: str) -> dict[str, Any]:
        return {"file": name, "bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}

    builds = {
        kind: {"module": _published(build.module), "glue": _published(build.glue), "wasm": file(_published(build.wasm))}
        for kind, build in BUILDS.items()
    }
    return {
        "network": metadata.network,
        "classes": list(metadata.classes),
        "input": metadata.input,
        "explains": metadata.explains,
        "preprocessing": metadata.preprocessing.model_dump(mode="json"),
        "model": file(MODEL),
        "runtime": {"version": runtime.version, **builds},
        "colors": heatmaps.color_table().reshape(-1).tolist(),
        "limits": {"bytes": limits.max_bytes, "pixels": limits.max_pixels},
    }


def _published(name: str) -> str:
    """Where the page has a file of the runtime: not all file servers know that `.mjs` is JavaScript."""
    return "runtime/" + name.replace(".mjs", ".js")


def _version(files: Mapping[str, bytes], described: Mapping[str, Any]) -> str:
    hasher = hashlib.sha256(_as_json(described))
    for name in sorted(files):
        hasher.update(f"\n{name} {hashlib.sha256(files[name]).hexdigest()}".encode())
    return hasher.hexdigest()[:16]


def _as_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()
