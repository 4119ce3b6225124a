"""What `cutaway serve RUN` does before it serves: exports the run where that is not done yet, and reads its layers."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from cutaway.cli.terminal import bars, say
from cutaway.errors import CutawayError, ServingError

if TYPE_CHECKING:
    from cutaway.inspect.layers import LayerTable
    from cutaway.serve.page import Tab


@dataclass(frozen=True)
class ServedRun:
    """What is served of a bundle.

    Attributes:
        model: Its ONNX file.
        tabs: Of the page, what only PyTorch can tell.
    """

    model: Path
    tabs: tuple[Tab, ...] = ()


def is_reference(model: Path) -> bool:
    """Whether a path names a run or a bundle, there or not, as `RUN` or `RUN@last`, and no ONNX file."""
    if "@" in model.name and not model.exists():
        model = model.with_name(model.name.rpartition("@")[0])
    return model.is_dir() or not (model.suffix or model.exists())


def prepare(reference: str, *, allow_code: tuple[str, ...] = (), page: bool = True) -> ServedRun:
    """Exports a bundle into its run's folder, unless the file there was made of this very bundle.

    Args:
        reference: Of the bundle.
        allow_code: Modules that its network may be imported from.
        page: Whether to make the page's tabs too.

    Raises:
        CutawayError: There is no such bundle, or it cannot be exported.
    """
    from cutaway.checkpoints import find

    stored = find(reference)
    model = stored.path.parent.parent / "export" / "model.onnx"
    if _bundle_of(model) == stored.manifest.digest():
        say(f"{model} was made of {stored.path.name}, so it is served as it is")
    else:
        from cutaway.cli.export_options import ExportOptions
        from cutaway.cli.export_reference import export_reference
        from cutaway.cli.export_words import tell

        tell(export_reference(ExportOptions(str(stored.path), out=model, allow_code=allow_code), track=bars))
    return ServedRun(model, _tabs(stored.path, allow_code) if page else ())


def layers_as_html(table: LayerTable) -> str:
    """The layer table for the page."""
    from cutaway.inspect import layer_rendering

    kinds = [" class=cw-num" if title in layer_rendering.NUMERIC else "" for title in layer_rendering.HEADER]

    def line(cells: tuple[str, ...], tag: str = "td") -> str:
        marked = (f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True))
        return f"<tr>{''.join(marked)}</tr>"

    body = "".join(line(cells) for cells in layer_rendering.display_rows(table))
    return (
        f"<p>{escape(layer_rendering.summary(table))}</p>"
        '<div class="cw-scroll" tabindex="0" role="region" aria-label="Layers">'
        f'<table class="cw-table cw-layers"><thead>{line(layer_rendering.HEADER, "th")}</thead><tbody>{body}'
        f"{line(layer_rendering.display_totals(table))}</tbody></table></div>"
    )


def _bundle_of(model: Path) -> str | None:
    """Hash of the bundle that an exported file says it was made of; None where there is no file, or not a whole one."""
    from cutaway.serve.metadata import check_seal, from_properties
    from cutaway.serve.onnx_file import properties

    try:
        data = model.read_bytes()
        check_seal(data)
        return from_properties(properties(data)).bundle
    except (OSError, ServingError):
        return None


def _tabs(bundle: Path, allow_code: tuple[str, ...]) -> tuple[Tab, ...]:
    """The layer table as a tab, made once; without it where the network cannot be built here, which is told."""
    from cutaway.checkpoints import restore
    from cutaway.cli.own_code import permitted
    from cutaway.inspect import layer_table
    from cutaway.serve.uploads import upload_folder

    upload_folder()  # before Gradio is imported: it reads its folder from the environment
    import gradio as gr

    from cutaway.serve.page import Tab

    try:
        restored = restore(bundle, allow_code=permitted(allow_code))
        html = layers_as_html(layer_table(restored.network, restored.spec.input_shape))
    except CutawayError as error:
        say(f"the page has no table of layers: {error.message}")
        return ()
    return (Tab("Layers", lambda: gr.HTML(html, elem_id="layers")),)
