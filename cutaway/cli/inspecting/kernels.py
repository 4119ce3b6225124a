"""`cutaway inspect kernels`: the kernels of a convolution as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.inspecting.reading import Reading, ReadingOptions
from cutaway.cli.outputs import Kind, require_file
from cutaway.cli.terminal import one_line, say, say_json
from cutaway.errors import InspectionError, SettingsError


@dataclass(frozen=True)
class KernelsOptions:
    """Draw the kernels of the first convolution, or of another."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    layer: str | None = None
    """A convolution by name; the first by default."""
    limit: int = 64
    """Draw so many."""
    out: Path = Path("kernels.png")
    """The picture."""
    json: bool = False
    """Print JSON, with each kernel's norm."""
    reading: Reading = field(default_factory=ReadingOptions)


def run_kernels(arguments: Sequence[str]) -> None:
    """Writes the picture."""
    options = parse(KernelsOptions, "inspect kernels", arguments)
    if options.limit < 1:
        raise SettingsError(f"--limit must be at least 1, not {options.limit}.")
    require_file(options.out, Kind.PNG)
    from cutaway.inspect.figures import draw_kernels, png
    from cutaway.inspect.kernels import first_kernels, layer_kernels

    network = options.reading.restore(options.reference).network
    found = first_kernels(network) if options.layer is None else layer_kernels(network, options.layer)
    if found is None:
        raise InspectionError(
            f"{type(network).__name__} has no two-dimensional convolution, so there are no kernels to draw."
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(png(draw_kernels(found, limit=options.limit)))
    if options.json:
        say_json(
            {
                "layer": found.layer,
                "shape": list(found.weights.shape),
                "norms": [float(norm) if norm.isfinite() else None for norm in found.norms],
                "zero": found.dead,
                "picture": str(options.out),
            }
        )
        return
    count, inputs, height, width = found.weights.shape
    dead = f"; all zero: {', '.join(map(str, found.dead))}" if found.dead else ""
    say(one_line(f"{found.layer}: {count} kernels of {inputs}×{height}×{width} in {options.out}{dead}"))
