"""`cutaway checkpoints …`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.terminal import as_bytes, say, say_json, say_table, without_nan
from cutaway.errors import BundleError


@dataclass(frozen=True)
class ListOptions:
    """List the bundles of a run, with their metrics."""

    run: tyro.conf.Positional[Path]
    """The run's directory."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class VerifyOptions:
    """Read every byte of a bundle, or of all bundles of a run, and compare it with the hashes."""

    reference: tyro.conf.Positional[str]
    """A bundle's directory, RUN, RUN@best, RUN@last or RUN@STEP."""


def run_list(arguments: Sequence[str]) -> None:
    """Prints a row a bundle."""
    options = parse(ListOptions, "checkpoints list", arguments)
    from cutaway.checkpoints import Run, best_of

    if not options.run.is_dir():
        raise BundleError(f"There is no run at {options.run}.", hint=f"Train one: cutaway train --out {options.run}")
    damaged: list[str] = []
    stored = Run(options.run).bundles(on_damage=lambda error: damaged.append(str(error)))
    best = best_of(stored)
    if options.json:
        say_json(
            {
                "run": str(options.run),
                "bundles": [
                    {
                        "path": str(bundle.path),
                        **bundle.manifest.progress.model_dump(),
                        "phase": bundle.manifest.phase,
                        "metrics": without_nan(bundle.manifest.metrics),
                        "bytes": bundle.bytes,
                        "created": bundle.manifest.created,
                        "best": best is not None and bundle.path == best.path,
                    }
                    for bundle in stored
                ],
                "damaged": damaged,
            }
        )
        return
    if not stored and not damaged:
        raise BundleError(f"{options.run} holds no bundles.", hint="Name a directory that cutaway train wrote.")
    metrics = list(dict.fromkeys(name for bundle in stored for name in bundle.manifest.metrics))
    say_table(
        ["bundle", "epoch", "step", *metrics, "size", "age", ""],
        [
            [
                bundle.path.name,
                bundle.manifest.progress.epoch,
                bundle.manifest.progress.step,
                *(bundle.manifest.metrics.get(name, "-") for name in metrics),
                as_bytes(bundle.bytes),
                _age(bundle.manifest.created),
                "best" if best and bundle.path == best.path else "",
            ]
            for bundle in stored
        ],
    )
    for sentence in damaged:
        say(f"damaged: {sentence}")


def run_verify(arguments: Sequence[str]) -> None:
    """Says that each bundle is whole, or fails with what is wrong."""
    options = parse(VerifyOptions, "checkpoints verify", arguments)
    from cutaway.checkpoints import Run, find, verify_bundle

    paths = Run(Path(options.reference)).bundle_paths() or [find(options.reference).path]
    for path in paths:
        verify_bundle(path)
        say(f"{path}: whole")


def _age(created: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
