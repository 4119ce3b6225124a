"""The table of a sweep as one HTML file that needs nothing else: sorted by a click, without a network."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from cutaway.train.sweep.results import Results


def render_page(results: Results) -> str:
    """The table as HTML. Every string of a run is escaped, and no script but the page's own runs."""
    environment = Environment(
        loader=PackageLoader("cutaway.train.sweep"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = _shown
    environment.filters["sortable"] = _sortable
    script = files("cutaway.train.sweep").joinpath("templates/results.js").read_text(encoding="utf-8")
    states = [row.state for row in results.rows]
    return environment.get_template("results.html").render(
        results=results,
        title=results.directory.resolve().name or str(results.directory),
        counts={state: states.count(state) for state in dict.fromkeys(states)},
        best={name: results.best(name) for name in results.metrics},
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return "NaN" if value != value else f"{value:.5g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _sortable(value: object) -> str:
    """What the script sorts by: a number, a text, or nothing where there is neither."""
    if value is None or value != value:
        return ""
    return repr(float(value)) if isinstance(value, int | float) else _shown(value)
