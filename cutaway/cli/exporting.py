"""`cutaway export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from cutaway.cli.arguments import parse
from cutaway.cli.export_combinations import refuse_combinations
from cutaway.cli.export_examples import examples_as_json
from cutaway.cli.export_options import ExportOptions
from cutaway.cli.export_reference import export_reference
from cutaway.cli.export_web import find_runtime, names_a_file, page_as_json, put_page, run_file, tell_page
from cutaway.cli.export_words import origin_as_json, tell
from cutaway.cli.outputs import Kind, require_file
from cutaway.cli.terminal import bars, say_json


def run_export(arguments: Sequence[str]) -> None:
    """Exports and tells how well the file agrees with PyTorch."""
    options = parse(ExportOptions, "export", arguments)
    refuse_combinations(options)
    if options.out is not None and not options.compare:
        require_file(options.out, Kind.ONNX)
    is_file = names_a_file(options)
    runtime = find_runtime(options)
    if runtime is not None and is_file:
        run_file(options, runtime)
        return
    if options.compare or options.precision != "fp32":
        from cutaway.cli.export_forms import run_forms

        run_forms(options)
        return
    exported = export_reference(options, track=bars)
    page = put_page(options, exported.result.path, runtime)
    if options.json:
        result = exported.result
        told = {"path": str(result.path), "bytes": result.num_bytes} | asdict(result.figures)
        say_json(told | origin_as_json(exported) | examples_as_json(exported.examples) | page_as_json(page))
        return
    tell(exported)
    tell_page(page)
