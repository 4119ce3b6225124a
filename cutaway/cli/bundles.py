"""`cutaway checkpoints list`, `verify` and `prune`: the bundles of a run as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.terminal import as_bytes, bars, say, say_json, say_table, without_nan
from cutaway.errors import BundleError, SettingsError

if TYPE_CHECKING:
    from cutaway.checkpoints import Manifest, Run, Stored


@dataclass(frozen=True)
class ListOptions:
    """List the bundles of a run with their metrics, size, age and health."""

    run: tyro.conf.Positional[Path]
    """The run's directory."""
    verify: bool = False
    """Read every byte; otherwise health is told by the manifests and the sizes of the files."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class VerifyOptions:
    """Read every byte of a bundle, or of all bundles of a run, and compare it with the hashes."""

    reference: tyro.conf.Positional[str]
    """A bundle's directory, RUN, RUN@best, RUN@last or RUN@STEP."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class PruneOptions:
    """Remove the bundles of a run that nobody asked to keep; the newest two stay in any case."""

    run: tyro.conf.Positional[Path]
    """The run's directory."""
    keep_last: int
    """So many of the newest stay."""
    keep_best: int = 1
    """So many with the best monitored metric stay."""
    keep_every: int = 0
    """Those after every so many steps stay; 0 for none."""
    dry_run: bool = False
    """Say what would be removed, and remove nothing."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class _Checked:
    """A directory that should be a bundle, and what is wrong with it."""

    path: Path
    stored: Stored | None
    problem: str


def run_list(arguments: Sequence[str]) -> None:
    """Prints a row a bundle."""
    options = parse(ListOptions, "checkpoints list", arguments)
    from cutaway.checkpoints import best_of

    paths = _run_at(options.run).bundle_paths()
    checked = [_check(path, verify=options.verify) for path in (bars(paths, "verifying") if options.verify else paths)]
    best = best_of([bundle.stored for bundle in checked if bundle.stored])
    if options.json:
        rows = [_as_json(bundle, best) for bundle in checked]
        damaged = [bundle.problem for bundle in checked if bundle.problem]
        how = "every byte" if options.verify else "sizes"
        say_json({"run": str(options.run), "bundles": rows, "damaged": damaged, "checked": how})
        return
    if not checked:
        raise BundleError(f"{options.run} holds no bundles.", hint="Name a directory that cutaway train wrote.")
    metrics = _columns([bundle.stored.manifest for bundle in checked if bundle.stored])
    say_table(
        ["bundle", "epoch", "step", *metrics, "size", "age", "health", ""],
        [_row(bundle, metrics, best) for bundle in checked],
    )
    for bundle in checked:
        if bundle.problem:
            say(f"damaged: {bundle.problem}")


def run_verify(arguments: Sequence[str]) -> None:
    """Says of each bundle whether it is whole; fails where one is not."""
    options = parse(VerifyOptions, "checkpoints verify", arguments)
    from cutaway.checkpoints import Run, find

    paths = Run(Path(options.reference)).bundle_paths() or [find(options.reference).path]
    checked = [_check(path, verify=True) for path in bars(paths, "verifying")]
    damaged = [bundle for bundle in checked if bundle.problem]
    if options.json:
        say_json([{"path": str(c.path), "health": _health(c), "problem": c.problem or None} for c in checked])
    else:
        for bundle in checked:
            say(f"{bundle.path}: {f'damaged: {bundle.problem}' if bundle.problem else 'whole'}")
    if damaged:
        many = f"{len(damaged)} of {len(checked)} bundles of {options.reference} are damaged"
        raise BundleError(
            damaged[0].problem if len(checked) == 1 else f"{many}, such as {damaged[0].path}.",
            hint="Resuming sets a damaged newest bundle aside and uses the one before it.",
        )


def run_prune(arguments: Sequence[str]) -> None:
    """Removes bundles, or says which it would remove."""
    options = parse(PruneOptions, "checkpoints prune", arguments)
    from cutaway.checkpoints.lock import only_writer

    for name, lowest in (("keep_last", 1), ("keep_best", 0), ("keep_every", 0)):
        if getattr(options, name) < lowest:
            option = f"--{name.replace('_', '-')}"
            raise SettingsError(f"{option} cannot be {getattr(options, name)}.", hint=f"Give {lowest} or more.")
    run = _run_at(options.run)
    if not run.checkpoints.is_dir():
        raise BundleError(f"{options.run} holds no bundles.", hint="Name a directory that cutaway train wrote.")
    keep = (options.keep_last, options.keep_best, options.keep_every)
    if options.dry_run:
        doomed, failures = run.superfluous(*keep), []
    else:
        with only_writer(options.run):
            doomed = run.superfluous(*keep)
            failures = run.prune(*keep)
    freed = sum(bundle.bytes for bundle in doomed)
    if options.json:
        names = [str(bundle.path) for bundle in doomed]
        say_json({"removed": names, "bytes": freed, "dry_run": options.dry_run, "failures": failures})
    else:
        for bundle in doomed:
            say(f"{'would remove' if options.dry_run else 'removed'} {bundle.path}")
        would = "would be " if options.dry_run else ""
        always = "; the newest two always stay" if options.keep_last < 2 else ""
        say(f"{len(doomed)} bundles, {as_bytes(freed)} {would}freed" if doomed else f"nothing to remove{always}")
    if failures:
        raise BundleError(" ".join(failures), hint="The others are removed.")


def age(created: str) -> str:
    """How long ago a bundle was made: `3 h`; `-` where it gives no valid time."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return "-"
    seconds = (datetime.now(UTC) - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _run_at(path: Path) -> Run:
    from cutaway.checkpoints import Run

    if not path.is_dir():
        raise BundleError(f"There is no run at {path}.", hint=f"Train one: cutaway train --out {path}")
    return Run(path)


def _check(path: Path, *, verify: bool) -> _Checked:
    from cutaway.checkpoints import Stored, verify_bundle
    from cutaway.checkpoints.bundle import read_manifest

    try:
        return _Checked(path, Stored(path, (verify_bundle if verify else read_manifest)(path)), "")
    except BundleError as error:
        return _Checked(path, None, error.message)


def _health(bundle: _Checked) -> str:
    return "damaged" if bundle.problem else "whole"


def _row(bundle: _Checked, metrics: Sequence[str], best: Stored | None) -> list[Any]:
    if bundle.stored is None:
        return [bundle.path.name, "-", "-", *("-" for _ in metrics), "-", "-", "damaged", ""]
    manifest = bundle.stored.manifest
    return [
        bundle.path.name,
        manifest.progress.epoch,
        manifest.progress.step,
        *(manifest.metrics.get(name, "-") for name in metrics),
        as_bytes(bundle.stored.bytes),
        age(manifest.created),
        "whole",
        "best" if best and bundle.path == best.path else "",
    ]


def _columns(manifests: Sequence[Manifest]) -> list[str]:
    """Metrics that fit in a line: all but those that are neither a loss, nor an accuracy, nor monitored."""
    from cutaway.metrics import SCALARS

    left_out = SCALARS.keys() - {"valid_loss", "valid_accuracy"} - {each.monitored.metric for each in manifests}
    return [name for name in dict.fromkeys(name for each in manifests for name in each.metrics) if name not in left_out]


def _as_json(bundle: _Checked, best: Stored | None) -> dict[str, Any]:
    said = {"path": str(bundle.path), "health": _health(bundle), "problem": bundle.problem or None}
    if bundle.stored is None:
        return said
    manifest = bundle.stored.manifest
    return said | {
        **manifest.progress.model_dump(),
        "phase": manifest.phase,
        "metrics": without_nan(manifest.metrics),
        "bytes": bundle.stored.bytes,
        "created": manifest.created,
        "best": best is not None and bundle.path == best.path,
    }
