"""The page at `/docs`: the API's own description, readable. Plain HTML, with no script and nothing to fetch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

__all__ = ["docs_page"]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 ui-sans-serif, system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
article { border-top: 1px solid #8886; padding: 1rem 0; }
h1, h2 { line-height: 1.2; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
h3 b { display: inline-block; min-width: 3.5rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; overflow-wrap: anywhere; }
"""


def docs_page(described: Mapping[str, Any]) -> str:
    """The page.

    Args:
        described: The OpenAPI document.
    """
    info = described["info"]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info.get('summary', ''))}.",
        'The same for programs: <a href="openapi.json">openapi.json</a>.',
        "Errors are <code>application/problem+json</code>, with the words in <code>detail</code>.</p>",
    ]
    by_tag: dict[str, list[str]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["other"])[0]
            by_tag.setdefault(tag, []).append("".join(_operation(method, path, operation)))
    for tag, articles in by_tag.items():
        parts += [f"<h2>{escape(tag.capitalize() if tag.islower() else tag)}</h2>", *articles]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} · HTTP API</title><style>{_STYLE}</style></head>"
        f"<body><main>{' '.join(parts)}</main></body></html>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<article><h3><b>{escape(method.upper())}</b> <code>{escape(path)}</code></h3>"
    yield f"<p>{escape(operation.get('description', ''))}</p>"
    parameters = operation.get("parameters", [])
    if parameters:
        yield "<table><thead><tr><th>Parameter</th><th>Where</th><th>Values</th><th>What</th></tr></thead><tbody>"
        for parameter in parameters:
            cells = (parameter["name"], parameter["in"], _values(parameter["schema"]), parameter.get("description", ""))
            yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        yield "</tbody></table>"
    if "requestBody" in operation:
        kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in operation["requestBody"]["content"])
        yield f"<p>Body: {kinds}. {escape(operation['requestBody'].get('description', ''))}</p>"
    answers = ", ".join(
        f"{escape(status)} {escape(answer['description'])}" for status, answer in operation["responses"].items()
    )
    yield f"<p>Answers: {answers}.</p></article>"


def _values(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        said = ", ".join(str(value) for value in schema["enum"])
    elif "minimum" in schema and "maximum" in schema:
        said = f"{schema['minimum']} to {schema['maximum']}"
    else:
        said = str(schema.get("type", ""))
    return f"{said}; by default {schema['default']}" if "default" in schema else said
