"""`cutaway export --web`: a page that needs no server, of a network that is exported or of a file that is there."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.cli.terminal import as_bytes, say, say_json
from cutaway.errors import SettingsError

if TYPE_CHECKING:
    from cutaway.cli.export_options import ExportOptions
    from cutaway.serve.web import Runtime, WebPage

# What has a meaning where a file is only put into a page.
_OF_THE_PAGE = {"reference", "web", "web_runtime", "json"}
_NAMED_OTHERWISE = {"foreign": "--network or another option for it", "explain": "--no-explain"}


def find_runtime(options: ExportOptions) -> Runtime | None:
    """What the page needs, before anything is exported; None without `--web`.

    Raises:
        CutawayError: The page cannot be written there, the options do not go together, or the runtime is not to be had.
    """
    if options.web is None:
        if options.web_runtime is not None:
            raise SettingsError(
                "--web-runtime says what a page is made with, and no page was asked for.", hint="Add --web FOLDER."
            )
        return None
    if options.compare or options.precision != "fp32":
        raise SettingsError(
            "--web makes a page of the export in fp32, or of a file that is there.",
            hint="Export the other form first, and then `cutaway export model.onnx --web FOLDER`.",
        )
    from cutaway.serve.web import fetch_runtime, read_runtime
    from cutaway.serve.web.folders import check_place

    check_place(options.web)
    return fetch_runtime() if options.web_runtime is None else read_runtime(options.web_runtime)


def names_a_file(options: ExportOptions) -> bool:
    """Whether the page is asked for of an ONNX file that is there.

    Raises:
        SettingsError: So it is, and there are options which say how to export.
    """
    reference = options.reference
    if options.web is None or reference is None or not reference.endswith(".onnx") or not Path(reference).is_file():
        return False
    changed = [
        each.name
        for each in fields(options)
        if each.name not in _OF_THE_PAGE and getattr(options, each.name) != getattr(type(options)(), each.name)
    ]
    if changed:
        named = _NAMED_OTHERWISE.get(changed[0], f"--{changed[0].replace('_', '-')}")
        raise SettingsError(f"{reference} is exported already, and {named} says how to export.", hint="Leave it out.")
    return True


def run_file(options: ExportOptions, runtime: Runtime) -> None:
    """Makes the page of a file, and tells of it."""
    page = put_page(options, Path(str(options.reference)), runtime)
    if options.json:
        say_json(page_as_json(page))
    else:
        tell_page(page)


def put_page(options: ExportOptions, model: Path, runtime: Runtime | None) -> WebPage | None:
    """Writes the page of a file; none without `--web`."""
    if options.web is None or runtime is None:
        return None
    from cutaway.serve.web import write_page

    return write_page(model, options.web, runtime)


def tell_page(page: WebPage | None) -> None:
    """Says where it is, what it takes and how to see it; nothing without one."""
    if page is None:
        return
    examples = f", {page.num_examples} examples" if page.num_examples else ""
    say(
        f"the page {page.folder} needs no server of its own: {as_bytes(page.num_bytes)}, of which a first visit takes "
        f"{as_bytes(page.first_load)}{examples}, ONNX Runtime Web {page.runtime_version}"
    )
    say(f"next: python -m http.server --bind 127.0.0.1 --directory {page.folder}, or any file server over https")


def page_as_json(page: WebPage | None) -> dict[str, Any]:
    """The same as JSON; nothing without a page."""
    if page is None:
        return {}
    return {
        "web": {
            "folder": str(page.folder),
            "bytes": page.num_bytes,
            "first_load": page.first_load,
            "num_examples": page.num_examples,
            "runtime_version": page.runtime_version,
        }
    }
