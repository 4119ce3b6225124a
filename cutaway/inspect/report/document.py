"""The report as one HTML file that needs nothing else: from sections to markup, and onto the disk."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from cutaway.images import encode_png
from cutaway.inspect import charts
from cutaway.inspect.tiles import fitted
from cutaway.preprocessing.spec import Pixels

PICTURE_SIDE = 224
"""Pictures and overlays stand in the report at about this many pixels."""

_THUMBNAIL_SIDE = 84
# Controls, marks of direction and halves of surrogate pairs.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LARGEST_PNG, _JPEG_QUALITY = 20_000, 88


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        key: Its name for `--sections`, its anchor, and that of its template.
        title: Its heading.
        content: What its template shows.
    """

    key: str
    title: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """All that a report shows.

    Attributes:
        title: The heading, such as the network and its data.
        subtitle: A line below it: how far it was trained, and when.
        headline: Figures that a reader looks for first, by name.
        sections: In the order in which they stand.
    """

    title: str
    subtitle: str = ""
    headline: Mapping[str, str] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        """The content of a section."""
        return next(section.content for section in self.sections if section.key == key)

    def __contains__(self, key: str) -> bool:
        return any(section.key == key for section in self.sections)


def write_report(out: Path, report: Report) -> Path:
    """Writes the report.

    Args:
        out: A file, or a folder (anything without the suffix .html), which gets an `index.html`.
        report: What to show.

    Returns:
        The file, complete or not there at all.
    """
    path = out if out.suffix.lower() in (".html", ".htm") else out / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(render_report(report), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def render_report(report: Report) -> str:
    """The report as HTML. Every string that comes from a run, a data set or a person is escaped."""
    environment = Environment(
        loader=PackageLoader("cutaway.inspect.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    filters: dict[str, Callable[..., str]] = {
        "picture": lambda picture: _photo_uri(fitted(picture, PICTURE_SIDE)),
        "thumbnail": lambda picture: _photo_uri(fitted(picture, _THUMBNAIL_SIDE)),
        "as_it_is": data_uri,
        "bars": charts.bars,
        "number": charts.number,
        "percent": _percent,
        "setting": _setting,
    }
    environment.filters.update(filters)
    return environment.get_template("page.html").render(report=report)


def data_uri(picture: Pixels) -> str:
    """A picture as the address of itself."""
    return "data:image/png;base64," + base64.b64encode(encode_png(picture)).decode("ascii")


def _photo_uri(picture: Pixels) -> str:
    """As `data_uri`, but as JPEG where that saves much: a report of photos would weigh ten times as much as PNG."""
    png = encode_png(picture)
    if len(png) <= _LARGEST_PNG:
        return data_uri(picture)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _harmless(value: Any) -> Any:
    """Text without what is not seen and turns the direction of what stands behind it."""
    if not isinstance(value, str) or isinstance(value, Markup) or not _UNSEEN.search(value):
        return value
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", value)


def _percent(share: float) -> str:
    return "–" if share != share else f"{share:.1%}"


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
